"""Power iteration: the greatest eigenvalue of a symmetric matrix, and its vector."""

import torch
from torch import Tensor


def power_iteration(A: Tensor, x: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Return the eigenvalue of greatest absolute value of A, [N, N], and its vector, [N], begun at x."""
    v = x / x.norm()
    for _ in range(steps):
        product = A @ v
        v = product / product.norm()
    return v @ A @ v, v
