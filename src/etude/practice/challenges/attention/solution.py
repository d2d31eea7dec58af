"""Scaled dot-product attention: each query takes a mixture of values."""

import math

import torch
from torch import Tensor


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the output [..., T, V] and the pattern [..., T, S] of queries, keys, values and perhaps a mask."""
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    pattern = scores.softmax(dim=-1)
    return pattern @ v, pattern
