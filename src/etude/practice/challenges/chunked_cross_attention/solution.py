"""Chunked cross-attention: which chunk's neighbours a position may read."""

import torch
from torch import Tensor


def chunk_read(positions: int, size: int) -> Tensor:
    """Return the chunk whose neighbours each position reads, or -1, [T]."""
    return (torch.arange(positions) + 1) // size - 1


def divide(x: Tensor, size: int) -> Tensor:
    """Return the positions [B, T, D] that read the same neighbours together, as [B, U, m, D]."""
    kept = x[:, size - 1 :]
    lots = -(-kept.shape[1] // size)
    missing = kept.new_zeros(kept.shape[0], lots * size - kept.shape[1], kept.shape[2])
    return torch.cat([kept, missing], dim=1).reshape(kept.shape[0], lots, size, kept.shape[2])


def join(y: Tensor, positions: int) -> Tensor:
    """Return what was divided, [B, U, m, D], in its place, [B, T, D]."""
    nothing = y.new_zeros(y.shape[0], y.shape[2] - 1, y.shape[3])
    return torch.cat([nothing, y.flatten(1, 2)], dim=1)[:, :positions]
