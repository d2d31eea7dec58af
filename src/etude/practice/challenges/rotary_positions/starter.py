"""Rotary positions: queries and keys are turned, so that their products know the distance between them."""

import torch
from torch import Tensor


def rotary_positions(x: Tensor, positions: Tensor, base: float = 10000.0) -> Tensor:
    """Turn each pair of neighbouring coordinates by an angle that grows with the position.

        angle φ = m · base^(-2i / K) for the vector at position m and pair i = 0, 1, ..., K/2 - 1
        out[2i]     = x[2i] cos φ - x[2i + 1] sin φ
        out[2i + 1] = x[2i] sin φ + x[2i + 1] cos φ

    (Su et al. 2021, "RoFormer", section 3.4.2.) The pairs are neighbours, (0, 1), (2, 3) and so on, as in the paper;
    other code pairs i with i + K/2. Angles are in radians.

    Args:
        x: queries or keys, [..., T, K], with K even.
        positions: m for each of the T vectors, whole numbers, [T]: in any order, beginning anywhere.
        base: of the angles.

    Returns:
        [..., T, K]. Lengths stay as they are, and the inner product of a query turned to position m and a key turned
        to position n depends on m - n alone.
    """
    raise NotImplementedError
