"""A causal attention head: it reads the residual stream, moves information forward, and writes to the stream."""

import math

import torch
from torch import Tensor


def single_head(x: Tensor, W_Q: Tensor, W_K: Tensor, W_V: Tensor, W_O: Tensor) -> Tensor:
    """Return what a causal head with maps [D, K] and W_O [K, D] writes to a stream [B, T, D]."""
    q, k, v = x @ W_Q, x @ W_K, x @ W_V
    future = torch.ones(x.shape[-2], x.shape[-2], dtype=torch.bool, device=x.device).triu(1)
    pattern = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(future, float("-inf")).softmax(dim=-1)
    return pattern @ v @ W_O
