"""A sparse autoencoder of the first kind: rectified latents, whose sum has a price (Bricken et al. 2023)."""

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
class ReluSae(Method):
    """Write an activation as a sum of the directions that are there, of many, where each has a price by how much.

    The rows of the decoder have norm 1, so the price cannot be evaded. It also draws the latents towards zero where
    they are used, which a top-k code does not know. Latents that have died are brought back by an auxiliary loss. The
    result tells how many fire on average, which `penalty` decides, and how many never do.

    Attributes:
        features: latents in all; no more than the tokens that it is fitted to.
        penalty: weight of the sum of the latents, in units of the root of the mean squared norm of an activation about
            its mean, against the share of variance that is lost.
        revive: tokens without its firing after which a latent is dead.
        steps: training steps.
        batch: tokens in a step.
        rate: peak learning rate.
    """

    version: ClassVar[int] = 2  # 2: it begins near zero, at a higher rate that falls late

    features: int = 512
    penalty: float = 0.1
    revive: int = 16384
    steps: int = 1000
    batch: int = 512
    rate: float = 4e-3

    sized: ClassVar[str] = "features"
    counts: ClassVar[Counted] = "features"
    label: ClassVar[str] = "ReLU SAE"
    group: ClassVar[Group] = "sparse"
    drawn: ClassVar[bool] = True

    def check(self) -> None:
        super().check()
        require_least(self, penalty=0, revive=1, steps=0, batch=1)
        require_over(self, rate=0)

    def ladder(self, width: int) -> tuple[int, ...]:
        return tuple(width * times for times in (1, 2, 4, 8))

    def disk_bytes(self, width: int) -> int:
        return sparse_bytes(width, self.features)

    def fit(self, material: Material, seed: int, run: Draft) -> Codec:
        from etude.compress.fitting import Steps
        from etude.compress.linear import require_size
        from etude.compress.sparse_training import Choices, train_sparse

        x = material.values
        require_size(self.features, len(x), "relu-sae.features", of="recorded tokens")
        return train_sparse(
            x,
            x,
            Choices(self.features, penalty=self.penalty, revive=self.revive),
            Steps(self.steps, self.batch, self.rate),
            seed,
            run,
        )

    def codec(self, tensors: Mapping[str, Tensor]) -> Codec:
        from etude.compress.sparse import Sparse

        return Sparse.of(tensors, 0)
