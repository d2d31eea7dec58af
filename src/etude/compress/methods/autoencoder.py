"""A plain autoencoder: a few numbers from which as much as possible is read back (Hinton and Salakhutdinov 2006)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from etude.compress.methods._bounds import autoencoder_bytes, require_least, require_over
from etude.compress.methods.base import Group, Method

if TYPE_CHECKING:
    from torch import Tensor

    from etude.compress.codec import Codec
    from etude.compress.material import Material
    from etude.core.run import Draft


@dataclass(frozen=True)
class Autoencoder(Method):
    """Squeeze an activation through a few numbers, with nothing asked of them but that little is lost.

    The maps are those of `infovae`, begun at the principal components. Linear maps can do no better than these
    (Baldi and Hornik 1989), so `linear` is a check of the training: it comes to what `pca` keeps.

    Attributes:
        latent: how many numbers.
        hidden: width of the hidden layer, as a multiple of the activation's; 0 has none.
        linear: leave the hidden layers out.
        steps: training steps.
        batch: activations in a step.
        rate: peak learning rate.
    """

    latent: int = 20
    hidden: float = 2.0
    linear: bool = False
    steps: int = 600
    batch: int = 512
    rate: float = 2e-3

    sized: ClassVar[str] = "latent"
    label: ClassVar[str] = "autoencoder"
    group: ClassVar[Group] = "bottleneck"
    drawn: ClassVar[bool] = True

    def check(self) -> None:
        super().check()
        require_least(self, hidden=0, steps=0, batch=1)
        require_over(self, rate=0)

    def disk_bytes(self, width: int) -> int:
        return autoencoder_bytes(width, self.latent, self.hidden)

    def fit(self, material: Material, seed: int, run: Draft) -> Codec:
        from etude.compress.autoencoder_training import Reconstruct, train_autoencoder
        from etude.compress.fitting import Steps
        from etude.compress.linear import require_size

        require_size(self.latent, material.values.shape[1], "autoencoder.latent")
        steps = Steps(self.steps, self.batch, self.rate)
        hidden = 0.0 if self.linear else self.hidden
        return train_autoencoder(material.values, self.latent, hidden, Reconstruct, steps, seed, run)

    def codec(self, tensors: Mapping[str, Tensor]) -> Codec:
        from etude.compress.autoencoder import Autoencoder

        return Autoencoder.of(tensors)
