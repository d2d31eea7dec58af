"""Sinusoidal positions: a vector for each position, from clocks of different speeds."""

import torch
from torch import Tensor


def sinusoidal_positions(length: int, width: int) -> Tensor:
    """Return the position vectors that the first transformer adds to its embeddings.

        PE[pos, 2i]     = sin(pos / 10000^(2i / D))
        PE[pos, 2i + 1] = cos(pos / 10000^(2i / D)),  i = 0, 1, ..., D/2 - 1

    (Vaswani et al. 2017, section 3.5.) Columns 2i and 2i + 1 are a pair with one angle. The angle of pair 0 is pos
    itself, in radians; each further pair turns more slowly.

    Args:
        length: T, of positions, 0 to T - 1.
        width: D, an even number.

    Returns:
        [T, D], of real numbers: row pos is the vector of position pos. It is the same each time; nothing is learned.
    """
    raise NotImplementedError
