"""A top-k sparse autoencoder: the k greatest of many latents stand for a token (Gao et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from etude.compress.methods._bounds import require_least, require_over, sparse_bytes
from etude.compress.methods.base import Counted, Group, Method

if TYPE_CHECKING:
    from torch import Tensor

    from etude.compress.codec import Codec
    from etude.compress.material import Material
    from etude.core.run import Draft


@dataclass(frozen=True)
class TopkSae(Method):
    """Write an activation as a sum of the few of many directions that fit it best, each as often as it is there.

    The rows of the decoder have norm 1. Latents that have died are brought back by an auxiliary loss. The result tells
    how many are left that never fire. The cost is the mean number that fire, and the bits that name them.

    Attributes:
        k: latents that are kept for a token; those of them under 0 are zero too.
        features: latents in all; 0 is eight times the activation's width.
        revive: tokens without its firing after which a latent is dead.
        steps: training steps.
        batch: tokens in a step.
        rate: peak learning rate.
    """

    version: ClassVar[int] = 2  # 2: it begins near zero, at a higher rate that falls late

    k: int = 16
    features: int = 0
    revive: int = 16384
    steps: int = 1000
    batch: int = 512
    rate: float = 8e-3

    sized: ClassVar[str] = "k"
    counts: ClassVar[Counted] = "latents"
    label: ClassVar[str] = "top-k SAE"
    group: ClassVar[Group] = "sparse"
    drawn: ClassVar[bool] = True

    def check(self) -> None:
        super().check()
        require_least(self, features=0, revive=1, steps=0, batch=1)
        require_over(self, rate=0)

    def disk_bytes(self, width: int) -> int:
        return sparse_bytes(width, self.features or 8 * width)

    def fit(self, material: Material, seed: int, run: Draft) -> Codec:
        from etude.compress.fitting import Steps
        from etude.compress.linear import require_size
        from etude.compress.sparse_training import Choices, train_sparse

        x = material.values
        features = self.features or 8 * x.shape[1]
        require_size(self.k, features, "topk-sae.k", of="latents")
        return train_sparse(
            x, x, Choices(features, self.k, revive=self.revive), Steps(self.steps, self.batch, self.rate), seed, run
        )

    def codec(self, tensors: Mapping[str, Tensor]) -> Codec:
        from etude.compress.sparse import Sparse

        return Sparse.of(tensors, self.k)
