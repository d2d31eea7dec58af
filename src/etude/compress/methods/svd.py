"""Truncated singular value decomposition of a weight: the nearest matrix of a lower rank (Eckart and Young 1936)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from etude.compress.methods.base import Method, Target

if TYPE_CHECKING:
    from torch import Tensor

    from etude.compress.codec import Codec
    from etude.compress.material import Material
    from etude.core.run import Draft


@dataclass(frozen=True)
class Svd(Method):
    """Put a matrix of lower rank in place of a weight.

    Attributes:
        rank: how many singular values are kept.
    """

    rank: int = 20

    target: ClassVar[Target] = "weight"
    sized: ClassVar[str] = "rank"
    label: ClassVar[str] = "SVD of the weight"

    def fit(self, material: Material, seed: int, run: Draft) -> Codec:
        import torch

        from etude.compress.codec import Factored
        from etude.compress.linear import require_size

        require_size(self.rank, min(material.values.shape), "svd.rank")
        u, s, v = torch.linalg.svd(material.values.double(), full_matrices=False)
        left = (u[:, : self.rank] * s[: self.rank]).float()
        return Factored(left.contiguous(), v[: self.rank].float().contiguous())

    def codec(self, tensors: Mapping[str, Tensor]) -> Codec:
        from etude.compress.codec import Factored

        return Factored(tensors["left"], tensors["right"])
