"""What is left when units are pruned: the kept numbers of an activation, or the kept numbers of a weight."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from etude.compress.codec import Codec, Cost


def kept_units(scores: Float[Tensor, " U"], percent: int) -> Int[Tensor, " R"]:
    """Return the numbers of the units that matter most, in rising order. Those that a larger percentage keeps hold
    those of a smaller one.

    Args:
        scores: how much each matters. Of equal ones the first is kept.
        percent: how many of all to keep, rounded to whole units; one at least.
    """
    count = max(1, round(percent * len(scores) / 100))
    return scores.argsort(descending=True, stable=True)[:count].sort().values


class Masked(Codec):
    """Some numbers of an activation as they are, a constant in place of each of the others.

    Args:
        fill: [D] the constants; 0 where a number is kept.
        kept: [R] which are kept, rising.
        units: of how many equal parts of the D numbers each is kept whole or not at all.
    """

    def __init__(self, fill: Float[Tensor, " D"], kept: Int[Tensor, " R"], units: int) -> None:
        super().__init__()
        self.register_buffer("fill", fill)
        self.register_buffer("kept", kept)
        self.register_buffer("units", torch.tensor(units))

    @staticmethod
    def of(tensors: Mapping[str, Tensor]) -> Masked:
        """Return the codec whose `state_dict` was saved."""
        return Masked(tensors["fill"], tensors["kept"], int(tensors["units"]))

    @staticmethod
    def keeping(units: Int[Tensor, " U"], fill: Float[Tensor, " D"], of: int) -> Masked:
        """Return what keeps these units.

        Args:
            units: which.
            fill: what stands in place of the others.
            of: how many units there are.
        """
        width = len(fill) // of
        kept = (units[:, None] * width + torch.arange(width)).flatten()
        return Masked(fill.index_fill(0, kept, 0.0), kept, of)

    def encode(self, x: Float[Tensor, "*N D"]) -> Float[Tensor, "*N R"]:
        return x[..., self.get_buffer("kept")]

    def decode(self, code: Float[Tensor, "*N R"]) -> Float[Tensor, "*N D"]:
        fill = self.get_buffer("fill")
        spread = fill.expand(*code.shape[:-1], len(fill))
        return spread.index_copy(-1, self.get_buffer("kept"), code)

    def cost(self) -> Cost:
        """Return R numbers a token; and held, the constants that are not 0 with one bit for each unit."""
        rank = len(self.get_buffer("kept"))
        held = int(self.get_buffer("fill").count_nonzero())
        return Cost(rank, 32.0 * rank, held, storage=32.0 * held + int(self.get_buffer("units")))


class Sparse(Codec):
    """A matrix [M, N] most numbers of which are 0, held as the others and where they stand.

    Args:
        mask: [M, N] where they stand.
        numbers: [R] the others, row by row.
    """

    def __init__(self, mask: Bool[Tensor, "M N"], numbers: Float[Tensor, " R"]) -> None:
        super().__init__()
        self.register_buffer("mask", mask)
        self.register_buffer("numbers", numbers)

    @staticmethod
    def keeping(units: Int[Tensor, " R"], matrix: Float[Tensor, "M N"]) -> Sparse:
        """Return what keeps these numbers of a matrix, counted row by row from 0."""
        mask = torch.zeros(matrix.numel(), dtype=torch.bool).index_fill(0, units, True).view_as(matrix)
        return Sparse(mask, matrix[mask])

    def encode(self, x: Tensor) -> Float[Tensor, " R"]:
        return self.get_buffer("numbers")

    def decode(self, code: Float[Tensor, " R"]) -> Float[Tensor, "M N"]:
        mask = self.get_buffer("mask")
        return torch.zeros(mask.shape, dtype=code.dtype, device=code.device).masked_scatter(mask, code)

    def cost(self) -> Cost:
        """Return what is stored: 32 bits for each number that is kept, and one for each place that says whether it is.
        What passes is as wide as it was."""
        numbers, mask = self.get_buffer("numbers"), self.get_buffer("mask")
        return Cost(None, None, len(numbers), flops=2.0 * len(numbers), storage=32.0 * len(numbers) + mask.numel())
