"""Chunked cross-attention: which chunk's neighbours a position may read."""

import torch
from torch import Tensor


def chunk_read(positions: int, size: int) -> Tensor:
    """Say which chunk's neighbours each position of a text reads (Borgeaud et al. 2021, section 2.4, figure 2).

    A text of T positions is cut into chunks of m: chunk u has the positions u m to u m + m - 1. Its neighbours were
    found by all of its tokens. So the first position that may read them without seeing its future is the last one of
    the chunk. It and the m - 1 positions after it read them. The first m - 1 positions of a text read nothing.

    Args:
        positions: T, any number.
        size: m, 1 or more.

    Returns:
        For each position the number of a chunk, from 0, or -1 where it reads nothing: whole numbers, of shape [T].
    """
    raise NotImplementedError


def divide(x: Tensor, size: int) -> Tensor:
    """Put positions that read the same neighbours together.

    Args:
        x: of shape [B, T, D].
        size: m.

    Returns:
        Of shape [B, U, m, D]: in [:, u] stand the positions that read the neighbours of chunk u, in order, and zeros
        where the last of the U is not full. U is the number of chunks that are read; it may be 0.
    """
    raise NotImplementedError


def join(y: Tensor, positions: int) -> Tensor:
    """Put what was divided back in its place.

    Args:
        y: of shape [B, U, m, D].
        positions: T, so that U is as above.

    Returns:
        Of shape [B, T, D], with zeros at positions that read nothing.
    """
    raise NotImplementedError
