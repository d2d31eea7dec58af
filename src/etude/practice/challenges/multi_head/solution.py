"""Multi-head attention: several heads look at once, each at its own part of the width."""

import math

import torch
from torch import Tensor


def multi_head(x: Tensor, W_Q: Tensor, W_K: Tensor, W_V: Tensor, W_O: Tensor, heads: int) -> Tensor:
    """Return what causal attention with maps [D, D] and several heads writes to a stream [B, T, D]."""
    q, k, v = ((x @ W).unflatten(-1, (heads, -1)).transpose(1, 2) for W in (W_Q, W_K, W_V))
    future = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
    pattern = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(future, float("-inf")).softmax(dim=-1)
    return (pattern @ v).transpose(1, 2).flatten(2) @ W_O
