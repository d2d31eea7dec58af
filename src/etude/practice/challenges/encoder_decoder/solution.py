"""Encoder and decoder: what is written attends to what was read."""

import math

import torch
from torch import Tensor


def cross_attention(
    x: Tensor, memory: Tensor, kept: Tensor, W_Q: Tensor, W_K: Tensor, W_V: Tensor, W_O: Tensor, heads: int
) -> tuple[Tensor, Tensor]:
    """Return what each position of the decoder gathers from the source, [B, T, D], and the patterns, [B, H, T, S]."""
    q = split(x @ W_Q, heads)
    k = split(memory @ W_K, heads)
    v = split(memory @ W_V, heads)
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    scores = scores.masked_fill(~kept[:, None, None, :], float("-inf"))
    pattern = torch.softmax(scores, dim=-1)
    return (pattern @ v).transpose(1, 2).flatten(2) @ W_O, pattern


def split(y: Tensor, heads: int) -> Tensor:
    """Cut [B, N, D] into heads, [B, H, N, D / H]."""
    return y.unflatten(2, (heads, -1)).transpose(1, 2)
