"""What an autoencoder is trained for: to lose little, and besides, latents near a prior, or ones that stand noise."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import mse_loss

from etude.compress.autoencoder import Affine, Autoencoder
from etude.compress.explained import Explained
from etude.compress.fitting import Objective, Steps, fit, some
from etude.compress.prior import kl_to_normal, mmd_of_collapse, mmd_to_normal
from etude.core.run import Draft
from etude.core.seeds import stream

ACTIVE = 0.01
"""Nats that a latent tells on average, above which it is in use."""

PIECE = 512
"""Latents among which the discrepancy of all is measured, piece by piece."""


class Reconstruct(Objective):
    """Lose as little of the variance as can be.

    Args:
        codec: what is trained.
        noise: standard deviation of what is added to the activations that are read, as a share of theirs (Vincent et
            al. 2008); what is written is compared with those that have none.
    """

    def __init__(self, codec: Autoencoder, noise: float = 0.0) -> None:
        super().__init__()
        self.codec, self.noise = codec, noise

    def forward(self, x: Float[Tensor, "N D"], y: Float[Tensor, "N D"], draw: torch.Generator) -> dict[str, Tensor]:
        read = x + self.noise * torch.randn(x.shape, generator=draw) if self.noise else x
        lost = mse_loss(self.codec.expand(self.codec.squeeze(read)), y)  # 1 is the variance: `scale` made it so
        return {"loss": lost}

    def found(self, x: Float[Tensor, "N D"], y: Float[Tensor, "N D"]) -> dict[str, float]:
        x, y, explained = some(x), some(y), Explained()
        explained.add(y, self.codec.expand(self.codec.squeeze(x)))
        return {} if explained.share is None else {"explained_fitted": explained.share}


class MatchPrior(Reconstruct):
    """Lose little, with latents whose distribution is near N(0, I) (Zhao, Song and Ermon 2017, equation 6, alpha = 1).

    Args:
        codec: what is trained.
        prior: weight of the discrepancy against the share of variance that is lost.
        bandwidth: of its kernel (`mmd_to_normal`).
    """

    def __init__(self, codec: Autoencoder, prior: float, bandwidth: float) -> None:
        super().__init__(codec)
        self.prior, self.bandwidth = prior, bandwidth

    def forward(self, x: Float[Tensor, "N D"], y: Float[Tensor, "N D"], draw: torch.Generator) -> dict[str, Tensor]:
        z = self.codec.squeeze(x)
        lost, mmd = mse_loss(self.codec.expand(z), y), mmd_to_normal(z, self.bandwidth)
        return {"loss": lost + self.prior * mmd, "lost": lost, "mmd": mmd}

    def found(self, x: Float[Tensor, "N D"], y: Float[Tensor, "N D"]) -> dict[str, float]:
        """Return the discrepancy of the fitted latents, and, beside it, what it would be if all were zero."""
        z = self.codec.squeeze(some(x))
        z = z[torch.randperm(len(z), generator=torch.Generator().manual_seed(0))]  # neighbours are of one text
        pieces = z.tensor_split(math.ceil(len(z) / PIECE))  # each is unbiased, so their mean is
        mmd = sum(mmd_to_normal(piece, self.bandwidth).item() for piece in pieces) / len(pieces)
        collapsed = mmd_of_collapse(self.codec.latent, self.bandwidth)
        return {**super().found(x, y), "mmd_fitted": mmd, "mmd_collapsed": collapsed}


class Vary(Reconstruct):
    """Lose little through latents that are drawn from a Gaussian for each activation, and tell little (Higgins et al.
    2017, equation 4).

    The loss is the negative of their objective, with a decoder of variance 1, divided by D/2 so that its first term is
    the share of variance that is lost. The variances are learned beside the codec, whose code is the mean.

    Args:
        codec: what is trained, begun at the principal components.
        beta: weight of the divergence from N(0, I). Of a linear codec at its best, a direction of variance v is kept
            where v, in units of the mean variance, is over `beta`, and tells ½ log(v / beta) nats.
    """

    def __init__(self, codec: Autoencoder, beta: float) -> None:
        super().__init__(codec)
        self.beta = beta
        self.log_variance = Affine(len(codec.read.W), codec.latent)
        with torch.no_grad():  # the best of a linear codec's whose means are whitened
            kept = codec.write.W.square().sum(1).clamp_min(1e-12)
            self.log_variance.b.copy_((beta / kept).clamp(1e-6, 1).log())

    def forward(self, x: Float[Tensor, "N D"], y: Float[Tensor, "N D"], draw: torch.Generator) -> dict[str, Tensor]:
        mean, log_variance = self.codec.squeeze(x), self.log_variance(x)
        z = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=draw)
        lost, kl = mse_loss(self.codec.expand(z), y), kl_to_normal(mean, log_variance).sum(1).mean()
        return {"loss": lost + 2 * self.beta / x.shape[1] * kl, "lost": lost, "kl": kl}

    def found(self, x: Float[Tensor, "N D"], y: Float[Tensor, "N D"]) -> dict[str, float]:
        """Return the rate of the code in bits a token, where it is drawn, and how many latents it uses."""
        read = some(x)
        told = kl_to_normal(self.codec.squeeze(read), self.log_variance(read)).mean(0)
        rate = float(told.sum()) / math.log(2)
        return {**super().found(x, y), "rate_bits": rate, "active": float((told > ACTIVE).sum())}


def train_autoencoder(
    data: Float[Tensor, "N D"],
    latent: int,
    hidden: float,
    objective: Callable[[Autoencoder], Objective],
    steps: Steps,
    seed: int,
    run: Draft,
) -> Autoencoder:
    """Return an autoencoder that was begun at the principal components and trained from there.

    Args:
        data: [N, D].
        latent: R.
        hidden: width of the hidden layers as a multiple of D; 0 has none.
        objective: makes what it is trained for.
        steps: how.
        seed: of the weights and batches.
        run: where the steps are logged and checkpointed.
    """
    width = data.shape[1]
    codec = Autoencoder(width, latent, max(1, round(hidden * width)) if hidden else 0)
    codec.start_at_principal_components(data, torch.Generator().manual_seed(stream(seed, "weights")))
    standard = codec.standard(data)
    fit(objective(codec), steps, standard, standard, seed, run)
    return codec.requires_grad_(False)
