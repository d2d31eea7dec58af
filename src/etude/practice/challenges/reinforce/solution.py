"""REINFORCE: a loss whose gradient makes actions that paid more likely."""

import torch
from torch import Tensor


def reinforce_loss(logits: Tensor, actions: Tensor, returns: Tensor, baseline: Tensor) -> Tensor:
    """Return the mean over steps of what an action brought times its log-probability, negative."""
    log_p = torch.log_softmax(logits, dim=-1).gather(-1, actions[:, None])[:, 0]
    gain = (returns - baseline).detach()
    return -(gain * log_p).mean()
