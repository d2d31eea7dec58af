"""What a policy is trained for, as pure functions of its log-probabilities: policy gradient, PPO's clip, V-MPO."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
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


def divergence(log_p: Float[Tensor, "*N A"], log_q: Float[Tensor, "*N A"]) -> Float[Tensor, "*N"]:
    """Return KL(p || q) in nats of distributions over A actions, given by their log-probabilities."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def better_half_loss(
    log_p: Float[Tensor, " N"], gains: Float[Tensor, " N"], temperature: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """Return V-MPO's policy loss (Song et al. 2019, arXiv 1909.12238, equation 3), of the better half of the samples.

    Args:
        log_p: of the actions taken, under the policy that is trained.
        gains: their advantages.
        temperature: eta.
    """
    weights = torch.softmax(gains.detach() / temperature, dim=0)
    return -(weights * log_p).sum()


def temperature_loss(gains: Float[Tensor, " N"], temperature: Float[Tensor, ""], bound: float) -> Float[Tensor, ""]:
    """Return the dual that V-MPO's temperature minimises (the same, equation 4)."""
    worth = torch.logsumexp(gains.detach() / temperature, dim=0) - math.log(len(gains))
    return temperature * (bound + worth)


def of_actions(log_p: Float[Tensor, "*N A"], actions: Int[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """Return the entry of each action that was taken."""
    return log_p.gather(-1, actions[..., None])[..., 0]
