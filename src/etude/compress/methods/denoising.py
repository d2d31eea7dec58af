"""A denoising autoencoder: it reads activations with noise on them and writes them without (Vincent et al. 2008)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from etude.compress.methods._bounds import autoencoder_bytes, require_least, require_over
from etude.compress.methods.base import Group, Method

if TYPE_CHECKING:
    from torch import Tensor

    from etude.compress.codec import Codec
    from etude.compress.material import Material
    from etude.core.run import Draft


@dataclass(frozen=True)
class Denoising(Method):
    """Squeeze an activation through a few numbers that are read where noise was added to it.

    The noise is Gaussian, the same in every dimension, and is there only while it is trained. Of
    a linear codec at its best, a direction of variance v is written as v / (v + noise²) of what was read: what varies
    less than the noise is drawn to the mean. The maps are those of `infovae`, begun at the principal components.

    Attributes:
        latent: how many numbers.
        hidden: width of the hidden layer, as a multiple of the activation's; 0 has none.
        noise: its standard deviation, as a share of the activation's (the root of the mean variance).
        steps: training steps.
        batch: activations in a step.
        rate: peak learning rate.
    """

    latent: int = 20
    hidden: float = 2.0
    noise: float = 0.3
    steps: int = 600
    batch: int = 512
    rate: float = 2e-3

    sized: ClassVar[str] = "latent"
    label: ClassVar[str] = "denoising autoencoder"
    group: ClassVar[Group] = "bottleneck"
    drawn: ClassVar[bool] = True

    def check(self) -> None:
        super().check()
        require_least(self, hidden=0, noise=0, steps=0, batch=1)
        require_over(self, rate=0)

    def disk_bytes(self, width: int) -> int:
        return autoencoder_bytes(width, self.latent, self.hidden)

    def fit(self, material: Material, seed: int, run: Draft) -> Codec:
        from etude.compress.autoencoder_training import Reconstruct, train_autoencoder
        from etude.compress.fitting import Steps
        from etude.compress.linear import require_size

        require_size(self.latent, material.values.shape[1], "denoising.latent")
        objective = partial(Reconstruct, noise=self.noise)
        steps = Steps(self.steps, self.batch, self.rate)
        return train_autoencoder(material.values, self.latent, self.hidden, objective, steps, seed, run)

    def codec(self, tensors: Mapping[str, Tensor]) -> Codec:
        from etude.compress.autoencoder import Autoencoder

        return Autoencoder.of(tensors)
