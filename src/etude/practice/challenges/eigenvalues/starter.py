"""Power iteration: the greatest eigenvalue of a symmetric matrix, and its vector."""

import torch
from torch import Tensor


def power_iteration(A: Tensor, x: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Find the eigenvalue of greatest absolute value, and an eigenvector of it.

    Each step multiplies by A and brings the vector back to length 1. The value of the vector v that is reached is its
    Rayleigh quotient:

        v_0 = x / |x|,    v_{t+1} = A v_t / |A v_t|,    value = v . A v  with v = v_steps

    Args:
        A: symmetric, of shape [N, N]. One eigenvalue is greater in absolute value than all others. It may be negative,
            and may be as large as 1,000 or as small as 0.001.
        x: where to begin, of shape [N], of any length but 0.
        steps: how many, from 0 on. Some hundred may be asked for.

    Returns:
        value: the eigenvalue, with its sign, a tensor of shape [].
        vector: of shape [N] and length 1. Its sign is whatever the steps give.
    """
    raise NotImplementedError
