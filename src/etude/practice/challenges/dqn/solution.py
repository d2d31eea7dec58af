"""Deep Q-learning: what an action is found to be worth, and the loss of what was thought."""

import torch
from torch import Tensor


def dqn_targets(rewards: Tensor, ended: Tensor, next_q: Tensor, discount: float) -> Tensor:
    """Return what N actions are found to be worth, [N], without a gradient."""
    best = next_q.detach().amax(dim=-1)
    return rewards + discount * torch.where(ended, 0.0, best)


def dqn_loss(q: Tensor, actions: Tensor, targets: Tensor) -> Tensor:
    """Return the mean Huber loss of the actions taken."""
    thought = q.gather(-1, actions[:, None])[:, 0]
    off = (thought - targets).abs()
    return torch.where(off <= 1, off**2 / 2, off - 0.5).mean()
