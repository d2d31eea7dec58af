"""Scaled dot-product attention (Vaswani et al. 2017, section 3.2.1), as its paper writes it.

Single-head attention is these functions as they stand; multi-head attention is the same with a head axis among the
leading ones (`multi_head.py`).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def attention_scores(q: Float[Tensor, "*N T K"], k: Float[Tensor, "*N S K"]) -> Float[Tensor, "*N T S"]:
    """Return q kᵀ / √K: how well each query fits each key, before any mask."""
    return q @ k.mT / math.sqrt(q.shape[-1])


def attention_pattern(scores: Float[Tensor, "*N T S"], mask: Bool[Tensor, "T S"]) -> Float[Tensor, "*N T S"]:
    """Return the weights that each position gives to those it may see; every row sums to 1.

    Args:
        scores: from `attention_scores`.
        mask: true where position T may see position S. A row that may see nothing gives NaN.
    """
    return scores.masked_fill(~mask, -math.inf).softmax(dim=-1)


def scaled_dot_product(
    q: Float[Tensor, "*N T K"],
    k: Float[Tensor, "*N S K"],
    v: Float[Tensor, "*N S K"],
    mask: Bool[Tensor, "T S"],
) -> Float[Tensor, "*N T K"]:
    """Return softmax(q kᵀ / √K) v over the positions that the mask lets through (equation 1)."""
    return attention_pattern(attention_scores(q, k), mask) @ v


def causal_mask(length: int, device: torch.device | None = None) -> Bool[Tensor, "T S"]:
    """Return the mask under which each position sees itself and what came before it."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()
