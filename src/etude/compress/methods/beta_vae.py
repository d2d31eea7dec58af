"""The beta-VAE: each latent is drawn from a Gaussian, and what it tells has a price (Higgins et al. 2017)."""

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
class BetaVae(Method):
    """Squeeze an activation through a few numbers that are drawn anew for each activation while it is trained.

    The encoder gives a mean and a log variance for each latent; the loss is the squared error of what is decoded from
    a draw, plus `beta` times the divergence of the draw's distribution from N(0, I) in closed form. `beta` 1 is the
    variational autoencoder of a decoder whose variance is the mean variance of the activation; latents that would tell
    less than they cost collapse to the prior. The code at use is the mean. The record tells the rate: the bits that the
    drawn code carries. The maps begin at the principal components, as those of `infovae` do.

    Attributes:
        latent: how many numbers.
        hidden: width of the hidden layer, as a multiple of the activation's; 0 has none.
        beta: price of what the latents tell.
        steps: training steps.
        batch: activations in a step.
        rate: peak learning rate.
    """

    latent: int = 20
    hidden: float = 2.0
    beta: float = 0.01
    steps: int = 600
    batch: int = 512
    rate: float = 2e-3

    sized: ClassVar[str] = "latent"
    label: ClassVar[str] = "beta-VAE"
    group: ClassVar[Group] = "bottleneck"
    drawn: ClassVar[bool] = True

    def check(self) -> None:
        super().check()
        require_least(self, hidden=0, steps=0, batch=1)
        require_over(self, beta=0, rate=0)

    def disk_bytes(self, width: int) -> int:
        return autoencoder_bytes(width, self.latent, self.hidden, beside=(width + 1) * self.latent)

    def fit(self, material: Material, seed: int, run: Draft) -> Codec:
        from etude.compress.autoencoder_training import Vary, train_autoencoder
        from etude.compress.fitting import Steps
        from etude.compress.linear import require_size

        require_size(self.latent, material.values.shape[1], "beta-vae.latent")
        objective = partial(Vary, beta=self.beta)
        steps = Steps(self.steps, self.batch, self.rate)
        return train_autoencoder(material.values, self.latent, self.hidden, objective, steps, seed, run)

    def codec(self, tensors: Mapping[str, Tensor]) -> Codec:
        from etude.compress.autoencoder import Autoencoder

        return Autoencoder.of(tensors)
