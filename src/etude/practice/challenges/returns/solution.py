"""Discounted returns: what followed each step of an episode."""

import torch
from torch import Tensor


def discounted_returns(rewards: Tensor, ended: Tensor, discount: float, after: Tensor) -> Tensor:
    """Return the discounted sum of the rewards from each step to the end of its episode, [T, B]."""
    found, following = [], after
    for t in range(len(rewards) - 1, -1, -1):
        following = rewards[t] + discount * torch.where(ended[t], 0.0, following)
        found.append(following)
    return torch.stack(found[::-1])
