"""A floor: zero in place of every activation, as if the component were cut out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etude.compress.methods.base import Method

if TYPE_CHECKING:
    from torch import Tensor

    from etude.compress.codec import Codec
    from etude.core.run import Draft


@dataclass(frozen=True)
class Zero(Method):
    """Cut the component out."""

    def fit(self, data: Tensor, seed: int, run: Draft) -> Codec:
        from etude.compress.linear import constant

        return constant(data.new_zeros(data.shape[1]))

    def codec(self, tensors: Mapping[str, Tensor]) -> Codec:
        from etude.compress.codec import Linear

        return Linear.of(tensors)
