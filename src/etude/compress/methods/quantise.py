"""Uniform quantisation of an activation: each dimension in a few bits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from etude.compress.methods.base import Counted, Group, Method
from etude.core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from etude.compress.codec import Codec
    from etude.compress.material import Material
    from etude.core.run import Draft


@dataclass(frozen=True)
class Quantise(Method):
    """Round each dimension to evenly spaced values about its mean, spaced so that the squared error is least.

    What it costs is the entropy of the values, measured for each dimension by itself, and so at most `bits` of each.

    Attributes:
        bits: of each dimension, 1 to 8.
    """

    bits: int = 4

    sized: ClassVar[str] = "bits"
    counts: ClassVar[Counted] = "bits"
    label: ClassVar[str] = "rounding"
    group: ClassVar[Group] = "discrete"

    def check(self) -> None:
        super().check()
        if self.bits > 8:
            raise UsageError(f"quantise.bits = {self.bits} does not fit: a number has 8 bits at most; choose 1 to 8")

    def fit(self, material: Material, seed: int, run: Draft) -> Codec:
        import torch

        from etude.compress.clustering import used
        from etude.compress.codec import entropy
        from etude.compress.quantised import Uniform
        from etude.compress.uniform import best_step, number_of

        data, values = material.values, 2**self.bits
        centre = data.mean(0, dtype=torch.float64).float()
        away = data - centre
        step = best_step(away, self.bits)
        numbers = number_of(away, step, self.bits)
        bits = [entropy(used(column.long() + values // 2, values)) for column in numbers.unbind(1)]
        return Uniform(centre, step, torch.stack(bits).float(), self.bits)

    def codec(self, tensors: Mapping[str, Tensor]) -> Codec:
        from etude.compress.quantised import Uniform

        return Uniform(tensors["centre"], tensors["step"], tensors["entropy"], self.bits)
