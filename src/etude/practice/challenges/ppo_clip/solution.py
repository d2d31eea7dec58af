"""PPO's clipped objective: what a policy learns from steps that an older one played."""

import torch
from torch import Tensor


def clipped_loss(log_p: Tensor, log_p_before: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """Return the negative of the clipped surrogate objective."""
    ratio, gain = (log_p - log_p_before.detach()).exp(), advantages.detach()
    near = ratio.clamp(1 - clip, 1 + clip)
    return -torch.minimum(ratio * gain, near * gain).mean()


def clip_fraction(log_p: Tensor, log_p_before: Tensor, clip: float) -> Tensor:
    """Return the share of steps whose ratio is further than epsilon from 1."""
    ratio = (log_p - log_p_before).exp()
    return ((ratio - 1).abs() > clip).float().mean()
