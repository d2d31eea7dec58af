"""The Kullback-Leibler divergence: how far one distribution is from another."""

import torch
from torch import Tensor


def kl_divergence(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """Return KL(p || q) in nats, of shape [...], for logits of shape [..., N]."""
    log_p = p_logits.log_softmax(-1)
    log_q = q_logits.log_softmax(-1)
    p = log_p.exp()
    ratio = (log_p - log_q).masked_fill(log_p.isneginf(), 0.0)
    return (p * ratio).sum(-1)
