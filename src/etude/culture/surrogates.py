"""What a policy is trained for, as pure functions of its log-probabilities: policy gradient, PPO's clip, V-MPO."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def policy_gradient_loss(log_p: Float[Tensor, "*N"], gains: Float[Tensor, "*N"]) -> Float[Tensor, ""]:
    """Return the loss whose gradient is REINFORCE's (Williams 1992), with returns or advantages as gains.

    Args:
        log_p: of the actions taken.
        gains: what they brought; constants.
    """
    return -(log_p * gains.detach()).mean()


def clipped_loss(
    log_p: Float[Tensor, "*N"], log_p_before: Float[Tensor, "*N"], gains: Float[Tensor, "*N"], clip: float
) -> Float[Tensor, ""]:
    """Return PPO's loss (Schulman et al. 2017, arXiv 1707.06347, equation 7).

    Args:
        log_p: of the actions taken, under the policy that is trained.
        log_p_before: under the policy that took them; constants.
        gains: advantages; constants.
        clip: how far the ratio of the two probabilities may pull, as a share.
    """
    ratio = (log_p - log_p_before.detach()).exp()
    gains = gains.detach()
    return -torch.minimum(ratio * gains, ratio.clamp(1 - clip, 1 + clip) * gains).mean()


def entropy(log_p: Float[Tensor, "*N A"]) -> Float[Tensor, "*N"]:
    """Return the entropy in nats of distributions over A actions, given by their log-probabilities."""
    return -(log_p.exp() * log_p).sum(-1)
