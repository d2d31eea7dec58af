"""A floor: a random subspace about the mean, of the same size as whatever is compared with it."""

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
class Random(Method):
    """Keep the coordinates in a subspace drawn at random, about the mean.

    Attributes:
        dimensions: of the subspace.
    """

    dimensions: int = 20

    sized: ClassVar[str] = "dimensions"
    label: ClassVar[str] = "random subspace"
    group: ClassVar[Group] = "floor"
    drawn: ClassVar[bool] = True

    def fit(self, material: Material, seed: int, run: Draft) -> Codec:
        import torch

        from etude.compress.codec import Linear
        from etude.compress.linear import require_size

        width = material.values.shape[1]
        require_size(self.dimensions, width, "random.dimensions")
        draw = torch.Generator().manual_seed(seed)
        gaussian = torch.randn(width, self.dimensions, generator=draw, dtype=torch.float64)
        basis = torch.linalg.qr(gaussian).Q.float()  # uniform over subspaces, since a Gaussian has no direction
        return Linear(material.values.double().mean(0).float(), basis, basis.T.contiguous())

    def codec(self, tensors: Mapping[str, Tensor]) -> Codec:
        from etude.compress.codec import Linear

        return Linear.of(tensors)
