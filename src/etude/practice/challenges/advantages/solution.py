"""Generalised advantage estimates: how much better an action was than expected."""

import torch
from torch import Tensor


def advantages(rewards: Tensor, values: Tensor, ended: Tensor, after: Tensor, discount: float, decay: float) -> Tensor:
    """Return generalised advantage estimates, [T, B]."""
    goes_on = (~ended).to(rewards.dtype)
    expected = torch.cat([values[1:], after[None]])
    delta = rewards + discount * goes_on * expected - values
    found, running = [], torch.zeros_like(after)
    for t in range(len(rewards) - 1, -1, -1):
        running = delta[t] + discount * decay * goes_on[t] * running
        found.append(running)
    return torch.stack(found[::-1])
