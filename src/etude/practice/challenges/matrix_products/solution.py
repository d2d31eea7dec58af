"""Matrix products, index by index."""

import torch
from torch import Tensor


def scores(q: Tensor, k: Tensor) -> Tensor:
    """Multiply every query [B, T, D] with every key [B, S, D] of the same text: [B, T, S]."""
    return torch.einsum("bid,bjd->bij", q, k)


def weighted_sums(p: Tensor, v: Tensor) -> Tensor:
    """Add up the values [B, S, D] of each text by their weights [B, T, S]: [B, T, D]."""
    return torch.einsum("bij,bjd->bid", p, v)


def per_head(z: Tensor, W: Tensor) -> Tensor:
    """Multiply each head's vectors [B, T, H, K] by its own matrix of [H, K, D]: [B, T, H, D]."""
    return torch.einsum("bthk,hkd->bthd", z, W)
