"""PPO's clipped objective: what a policy learns from steps that an older one played."""

import torch
from torch import Tensor


def clipped_loss(log_p: Tensor, log_p_before: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """Return the negative of the clipped surrogate objective (Schulman et al. 2017, arXiv 1707.06347, equation 7).

        ratio_n = pi(a_n | s_n) / pi_before(a_n | s_n)

        loss = - (1 / N) sum_n min(ratio_n A_n, clip(ratio_n, 1 - epsilon, 1 + epsilon) A_n)

    A policy gains nothing by moving the ratio further than epsilon in the direction that its advantage asks for. Where
    the ratio has moved the wrong way, the minimum keeps the gradient that brings it back.

    Args:
        log_p: log pi of the actions that were taken, of shape [N].
        log_p_before: log pi_before of the same, of shape [N]; constants.
        advantages: A, of shape [N]; constants.
        clip: epsilon, between 0 and 1.

    Returns:
        The loss, of shape []. Gradients flow to log_p alone.
    """
    raise NotImplementedError


def clip_fraction(log_p: Tensor, log_p_before: Tensor, clip: float) -> Tensor:
    """Return the share of steps whose ratio is further than epsilon from 1, above or below, of shape []."""
    raise NotImplementedError
