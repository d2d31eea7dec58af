"""A floor: zero in place of every activation, as if the component were cut out."""

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
class Zero(Method):
    """Cut the component out."""

    group: ClassVar[Group] = "floor"

    def fit(self, material: Material, seed: int, run: Draft) -> Codec:
        from etude.compress.linear import constant

        return constant(material.values.new_zeros(material.values.shape[1]))

    def codec(self, tensors: Mapping[str, Tensor]) -> Codec:
        from etude.compress.codec import Linear

        return Linear.of(tensors)
