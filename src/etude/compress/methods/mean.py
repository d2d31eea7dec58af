"""A floor: the mean activation, whatever the input. What the component adds beyond a constant is lost."""

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
class Mean(Method):
    """Put the mean over the training split in place of every activation."""

    def fit(self, data: Tensor, seed: int, run: Draft) -> Codec:
        from etude.compress.linear import constant

        return constant(data.double().mean(0).float())

    def codec(self, tensors: Mapping[str, Tensor]) -> Codec:
        from etude.compress.codec import Linear

        return Linear.of(tensors)
