"""Generalised advantage estimates: how much better an action was than expected."""

import torch
from torch import Tensor


def advantages(rewards: Tensor, values: Tensor, ended: Tensor, after: Tensor, discount: float, decay: float) -> Tensor:
    """Estimate advantages (Schulman et al. 2015, arXiv 1506.02438, equation 16).

        delta_t = R_t + gamma V_{t+1} - V_t
        A_t     = delta_t + (gamma lambda) delta_{t+1} + (gamma lambda)^2 delta_{t+2} + ...

    The sum ends with the last step of the episode, and after that step nothing is expected: V_{t+1} is 0 in its delta.

    Args:
        rewards: R, of shape [T, B]: T steps in each of B environments, T >= 1.
        values: V, what was expected to follow, before each step, of shape [T, B].
        ended: whether an episode was over after a step, of shape [T, B], true or false. What is recorded after it in
            the same column is another episode.
        after: V_T, the value of what follows the last step, of shape [B].
        discount: gamma, from 0 to 1.
        decay: lambda, from 0 to 1. With 0 the advantage is delta alone; with 1 it is the discounted return less V.

    Returns:
        A, of shape [T, B].
    """
    raise NotImplementedError
