"""Principal components: the linear subspace that keeps most of the variance about the mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from etude.compress.methods.base import Method

if TYPE_CHECKING:
    from torch import Tensor

    from etude.compress.codec import Codec
    from etude.compress.material import Material
    from etude.core.run import Draft


@dataclass(frozen=True)
class Pca(Method):
    """Keep the coordinates along the directions of greatest variance, about the mean.

    Attributes:
        dimensions: how many directions.
    """

    dimensions: int = 20

    sized: ClassVar[str] = "dimensions"
    label: ClassVar[str] = "PCA"

    def fit(self, material: Material, seed: int, run: Draft) -> Codec:
        from etude.compress.codec import Linear
        from etude.compress.linear import principal_directions, require_size

        require_size(self.dimensions, material.values.shape[1], "pca.dimensions")
        centre, directions, _ = principal_directions(material.values)
        basis = directions[:, : self.dimensions].float()
        return Linear(centre.float(), basis, basis.T.contiguous())

    def codec(self, tensors: Mapping[str, Tensor]) -> Codec:
        from etude.compress.codec import Linear

        return Linear.of(tensors)
