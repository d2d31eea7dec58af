"""A floor: the mean activation, whatever the input. What the component adds beyond a constant is lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from etude.compress.methods.base import Group, Method

if TYPE_CHECKING:
    from torch import Tensor

    from etude.compress.codec import Codec
    from etude.compress.material import Material
    from etude.core.run import Draft


@dataclass(frozen=True)
class Mean(Method):
    """Put the mean over the training split in place of every activation."""

    group: ClassVar[Group] = "floor"

    def fit(self, material: Material, seed: int, run: Draft) -> Codec:
        from etude.compress.linear import constant

        return constant(material.values.double().mean(0).float())

    def codec(self, tensors: Mapping[str, Tensor]) -> Codec:
        from etude.compress.codec import Linear

        return Linear.of(tensors)
