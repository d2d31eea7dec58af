"""A transcoder: a sparse code of what a component reads, from which its output is written (Dunefsky et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from etude.compress.methods._bounds import require_least, require_over, sparse_bytes
from etude.compress.methods.base import Counted, Group, Method, Target
from etude.core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from etude.compress.codec import Codec
    from etude.compress.material import Material
    from etude.core.run import Draft


@dataclass(frozen=True)
class Transcoder(Method):
    """Put a wide layer with few active latents in place of a component: it reads the input and writes the output.

    The code is that of `topk-sae`, of which the paper's has a penalty in place of k; the auxiliary loss is its too. In
    place of attention it sees one token alone.

    Attributes:
        k: latents that are kept for a token; those of them under 0 are zero too.
        features: latents in all; 0 is eight times the width of what is read.
        revive: tokens without its firing after which a latent is dead.
        steps: training steps.
        batch: tokens in a step.
        rate: peak learning rate.
    """

    version: ClassVar[int] = 2  # 2: it begins near zero, and its rate falls late

    k: int = 16
    features: int = 0
    revive: int = 16384
    steps: int = 1000
    batch: int = 512
    rate: float = 4e-3

    target: ClassVar[Target] = "component"
    sized: ClassVar[str] = "k"
    counts: ClassVar[Counted] = "latents"
    label: ClassVar[str] = "transcoder"
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

        x = material.inputs
        if x is None:
            raise UsageError(f"transcoder has nothing to read at {material.site}: record what the component reads")
        features = self.features or 8 * x.shape[1]
        require_size(self.k, features, "transcoder.k", of="latents")
        return train_sparse(
            x.float(),
            material.values,
            Choices(features, self.k, revive=self.revive),
            Steps(self.steps, self.batch, self.rate),
            seed,
            run,
        )

    def codec(self, tensors: Mapping[str, Tensor]) -> Codec:
        from etude.compress.sparse import Sparse

        return Sparse.of(tensors, self.k)
