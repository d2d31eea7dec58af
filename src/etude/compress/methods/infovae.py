"""InfoVAE: an autoencoder whose latents are drawn towards a standard normal (Zhao, Song and Ermon 2017)."""

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
class Infovae(Method):
    """Squeeze an activation through a few numbers, nonlinearly, with a prior on what they look like.

    Equation 6 of the paper with alpha = 1, its MMD form: reconstruction plus `prior` times the maximum mean
    discrepancy between the latents and N(0, I). The kernel is Gaussian with variance `bandwidth` times the latent
    size: of fixed width it would see nothing of the prior in high dimensions. The record tells the discrepancy at each
    step, that of the fitted latents, and, as `mmd_collapsed`, what latents that are all zero would cost. The encoder
    and decoder are each a linear map, begun at the principal components, plus a hidden layer beside it, begun at zero.

    Attributes:
        latent: how many numbers.
        hidden: width of the hidden layer, as a multiple of the activation's; 0 has none.
        prior: weight of the MMD against the share of variance that is lost.
        bandwidth: variance of the kernel as a multiple of the latent size.
        steps: training steps.
        batch: activations in a step.
        rate: peak learning rate.
    """

    latent: int = 20
    hidden: float = 2.0
    prior: float = 1.0
    bandwidth: float = 2.0
    steps: int = 600
    batch: int = 512
    rate: float = 2e-3

    version: ClassVar[int] = 2  # 2: it is fitted by fused products, which round otherwise, and tells of its end
    sized: ClassVar[str] = "latent"
    label: ClassVar[str] = "InfoVAE"
    group: ClassVar[Group] = "bottleneck"
    drawn: ClassVar[bool] = True

    def check(self) -> None:
        super().check()
        require_least(self, hidden=0, prior=0, steps=0, batch=2)  # the discrepancy is of pairs
        require_over(self, bandwidth=0, rate=0)

    def disk_bytes(self, width: int) -> int:
        return autoencoder_bytes(width, self.latent, self.hidden)

    def fit(self, material: Material, seed: int, run: Draft) -> Codec:
        from etude.compress.autoencoder_training import MatchPrior, train_autoencoder
        from etude.compress.fitting import Steps
        from etude.compress.linear import require_size

        require_size(self.latent, material.values.shape[1], "infovae.latent")
        objective = partial(MatchPrior, prior=self.prior, bandwidth=self.bandwidth)
        steps = Steps(self.steps, self.batch, self.rate)
        return train_autoencoder(material.values, self.latent, self.hidden, objective, steps, seed, run)

    def codec(self, tensors: Mapping[str, Tensor]) -> Codec:
        from etude.compress.autoencoder import Autoencoder

        return Autoencoder.of(tensors)
