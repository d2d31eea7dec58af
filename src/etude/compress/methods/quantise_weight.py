"""Uniform quantisation of a weight: each number in a few bits, rounded to the nearest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from etude.compress.methods.base import Counted, Group, Method, Target
from etude.core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from etude.compress.codec import Codec
    from etude.compress.material import Material
    from etude.core.run import Draft


@dataclass(frozen=True)
class QuantiseWeight(Method):
    """Round each number of a weight to evenly spaced values about zero, spaced so that the squared error is least.

    Attributes:
        bits: of each number, 1 to 8.
        scaled: whether each output has a spacing of its own, or one is for the whole weight.
    """

    bits: int = 4
    scaled: Literal["output", "weight"] = "output"

    target: ClassVar[Target] = "weight"
    sized: ClassVar[str] = "bits"
    counts: ClassVar[Counted] = "bits"
    label: ClassVar[str] = "rounding of the weight"
    group: ClassVar[Group] = "discrete"

    def check(self) -> None:
        super().check()
        if self.bits > 8:
            raise UsageError(
                f"quantise-weight.bits = {self.bits} does not fit: a number has 8 bits at most; choose 1 to 8"
            )

    def disk_bytes(self, width: int) -> int:
        return width * width + 4 * width

    def fit(self, material: Material, seed: int, run: Draft) -> Codec:
        from etude.compress.stored import StoredLevels
        from etude.compress.uniform import best_step, number_of

        weight = material.values
        step = best_step(weight if self.scaled == "output" else weight.reshape(-1, 1), self.bits)
        return StoredLevels(number_of(weight, step.expand(weight.shape[1]), self.bits), step, self.bits)

    def codec(self, tensors: Mapping[str, Tensor]) -> Codec:
        from etude.compress.stored import StoredLevels

        return StoredLevels(tensors["numbers"], tensors["step"], self.bits)
