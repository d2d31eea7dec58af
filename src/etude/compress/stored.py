"""Weights that are held in few bits. What passes is as it was: only what the model stores is less."""

from __future__ import annotations

import math

from jaxtyping import Float, Int8, Integer
from torch import Tensor

from etude.compress.codec import Codec, Cost
from etude.compress.uniform import value_of


class StoredLevels(Codec):
    """A matrix of which each number is one of 2^bits evenly spaced values about zero.

    Args:
        numbers: [M, N] of the values.
        step: [S] distance of the values, of each of the N columns or of all.
        bits: of a number.
    """

    def __init__(self, numbers: Int8[Tensor, "M N"], step: Float[Tensor, " S"], bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.register_buffer("numbers", numbers)
        self.register_buffer("step", step)

    def encode(self, x: Tensor) -> Tensor:
        return self.get_buffer("numbers")

    def decode(self, code: Tensor) -> Tensor:
        return value_of(code, self.get_buffer("step").expand(code.shape[-1]))

    def cost(self) -> Cost:
        """Return as the storage the bits of every number, and 32 of every step."""
        numbers, steps = self.get_buffer("numbers").numel(), self.get_buffer("step").numel()
        return Cost(None, None, numbers + steps, 2.0 * numbers, storage=float(self.bits * numbers + 32 * steps))


class StoredClusters(Codec):
    """A matrix of which each number is one of C centres.

    Args:
        numbers: [M, N] of the centres.
        centres: [C].
    """

    def __init__(self, numbers: Integer[Tensor, "M N"], centres: Float[Tensor, " C"]) -> None:
        super().__init__()
        self.register_buffer("numbers", numbers)
        self.register_buffer("centres", centres)

    def encode(self, x: Tensor) -> Tensor:
        return self.get_buffer("numbers")

    def decode(self, code: Tensor) -> Tensor:
        return self.get_buffer("centres")[code.long()]  # bytes would be taken for a mask

    def cost(self) -> Cost:
        """Return as the storage log2(C) bits for every number, as a code of fixed length has, and 32 for every centre.
        An entropy coder needs less where the centres are not used alike."""
        numbers, centres = self.get_buffer("numbers").numel(), self.get_buffer("centres").numel()
        stored = math.log2(centres) * numbers + 32 * centres
        return Cost(None, None, numbers + centres, 2.0 * numbers, storage=stored)
