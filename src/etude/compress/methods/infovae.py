"""InfoVAE: an autoencoder whose latents are drawn towards a standard normal (Zhao, Song and Ermon 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from etude.compress.methods.base import Group, Method
from etude.core.errors import UsageError

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
    size: of fixed width it would see nothing of the prior in high dimensions. The encoder and decoder are each a
    linear map, begun at the principal components, plus a hidden layer beside it, begun at zero.

    Attributes:
        latent: how many numbers.
        hidden: width of the hidden layer, as a multiple of the activation's.
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

    sized: ClassVar[str] = "latent"
    label: ClassVar[str] = "InfoVAE"
    group: ClassVar[Group] = "bottleneck"
    drawn: ClassVar[bool] = True

    def check(self) -> None:
        super().check()
        if self.prior < 0 or self.bandwidth <= 0 or self.rate <= 0 or self.hidden <= 0:
            raise UsageError(
                f"infovae prior {self.prior}, bandwidth {self.bandwidth}, rate {self.rate}, hidden {self.hidden}:"
                " the first may be 0, no less; the others must be over 0"
            )
        if self.steps < 0 or self.batch < 2:
            raise UsageError(
                f"infovae steps {self.steps}, batch {self.batch}: the steps may be 0, no less; the batch is 2 or more,"
                " since the prior is compared with pairs"
            )

    def disk_bytes(self, width: int) -> int:
        hidden = max(1, round(self.hidden * width))
        held = 2 * (self.latent + hidden + 1) * width + 2 * (hidden + 1) * (self.latent + 1)
        return 4 * held * 10  # itself, and three checkpoints, each with the two moments of Adam

    def fit(self, material: Material, seed: int, run: Draft) -> Codec:
        from etude.compress.autoencoder import train_autoencoder
        from etude.compress.linear import require_size

        require_size(self.latent, material.values.shape[1], "infovae.latent")
        return train_autoencoder(self, material.values, seed, run)

    def codec(self, tensors: Mapping[str, Tensor]) -> Codec:
        from etude.compress.autoencoder import Autoencoder

        codec = Autoencoder(tensors["read.W"].shape[0], self.latent, tensors["encode_in.W"].shape[1])
        codec.load_state_dict(dict(tensors))
        return codec.requires_grad_(False)
