"""What an action brought: discounted returns and advantages, of sequences [T B] that may hold several episodes."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def discounted(
    rewards: Float[Tensor, "T B"], ended: Bool[Tensor, "T B"], discount: float, after: Float[Tensor, " B"]
) -> Float[Tensor, "T B"]:
    """Return the discounted sum of the rewards from each step on (Sutton and Barto 2018, equation 3.8).

    Args:
        rewards: of each step.
        ended: whether the episode was over after a step: nothing flows back across it.
        discount: gamma.
        after: the value of what follows the last step.
    """
    found, following = torch.empty_like(rewards), after
    for t in range(len(rewards) - 1, -1, -1):
        following = rewards[t] + discount * torch.where(ended[t], 0.0, following)
        found[t] = following
    return found


def advantages(
    rewards: Float[Tensor, "T B"],
    values: Float[Tensor, "T B"],
    ended: Bool[Tensor, "T B"],
    after: Float[Tensor, " B"],
    discount: float,
    decay: float,
) -> Float[Tensor, "T B"]:
    """Return generalised advantage estimates (Schulman et al. 2015, arXiv 1506.02438, equation 16).

    An episode that was cut off and not ended has a value after it; where that is wanted, add `discount` times it to
    the last reward of the episode and mark it as ended.

    Args:
        rewards: of each step.
        values: what was expected before each step.
        ended: whether the episode was over after a step.
        after: the value of what follows the last step.
        discount: gamma.
        decay: lambda. 0 is the one-step error of the value, 1 the return less the value.
    """
    found, running, following = torch.empty_like(rewards), torch.zeros_like(after), after
    for t in range(len(rewards) - 1, -1, -1):
        goes_on = (~ended[t]).to(rewards.dtype)
        error = rewards[t] + discount * goes_on * following - values[t]
        running = error + discount * decay * goes_on * running
        found[t], following = running, values[t]
    return found


def standardised(x: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """Return numbers less their mean, in units of their standard deviation."""
    return (x - x.mean()) / (x.std(correction=0) + 1e-8)
