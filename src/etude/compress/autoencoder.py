"""The autoencoder behind the InfoVAE, its prior term, and the stepper that trains it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu

from etude.compress.codec import Codec, Cost
from etude.compress.linear import principal_directions
from etude.core.run import Draft
from etude.core.seeds import stream
from etude.train.checkpoint import State
from etude.train.loop import advance

if TYPE_CHECKING:
    from etude.compress.methods.infovae import Infovae


def mmd_to_normal(z: Float[Tensor, "N R"], bandwidth: float) -> Float[Tensor, ""]:
    """Return the squared maximum mean discrepancy between a sample and N(0, I).

    The kernel is k(a, b) = exp(-|a - b|² / 2s²) with s² = `bandwidth` · R. Two of the three expectations are taken
    exactly, since the prior is known: E k(z, p) = (s²/(s²+1))^(R/2) exp(-|z|² / 2(s²+1)) and
    E k(p, p') = (s²/(s²+2))^(R/2). The sample's own term leaves out each point with itself (unbiased; Gretton et al.
    2012, lemma 6), so the value may be slightly below 0.
    """
    n, r = z.shape
    variance = bandwidth * r
    norms = (z**2).sum(1)
    squared = norms[:, None] + norms[None] - 2 * z @ z.T
    kernel = torch.exp(-squared.clamp_min(0) / (2 * variance))
    within = (kernel.sum() - kernel.diagonal().sum()) / (n * (n - 1))
    across = (variance / (variance + 1)) ** (r / 2) * torch.exp(-norms / (2 * (variance + 1))).mean()
    prior = (variance / (variance + 2)) ** (r / 2)
    return within + prior - 2 * across


class _Affine(nn.Module):
    """`x @ W + b`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.zeros(inputs, outputs))
        self.b = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.W + self.b


class Autoencoder(Codec):
    """A linear map and a hidden layer beside it, into R latents and back.

    Args:
        width: D.
        latent: R.
        hidden: width of the hidden layers.
    """

    def __init__(self, width: int, latent: int, hidden: int) -> None:
        super().__init__()
        self.latent = latent
        self.read, self.write = _Affine(width, latent), _Affine(latent, width)
        self.encode_in, self.encode_out = _Affine(width, hidden), _Affine(hidden, latent)
        self.decode_in, self.decode_out = _Affine(latent, hidden), _Affine(hidden, width)
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("scale", torch.ones(()))

    def encode(self, x: Tensor) -> Tensor:
        return self.squeeze(self.standard(x))

    def decode(self, code: Tensor) -> Tensor:
        return self.expand(code) * self.get_buffer("scale") + self.get_buffer("centre")

    def standard(self, x: Tensor) -> Tensor:
        """Return activations about the centre, in units of the scale."""
        return (x - self.get_buffer("centre")) / self.get_buffer("scale")

    def squeeze(self, x: Tensor) -> Tensor:
        """Return the code of standard activations."""
        return self.read(x) + self.encode_out(gelu(self.encode_in(x)))

    def expand(self, code: Tensor) -> Tensor:
        """Return the standard activations that a code stands for."""
        return self.write(code) + self.decode_out(gelu(self.decode_in(code)))

    def cost(self) -> Cost:
        return Cost(self.latent, 32.0 * self.latent, sum(p.numel() for p in self.parameters()))

    @torch.no_grad()
    def start_at_principal_components(self, data: Float[Tensor, "N D"], draw: torch.Generator) -> None:
        """Set the linear maps to whitened principal components and the hidden layers to add nothing yet."""
        centre, directions, variances = principal_directions(data)
        self.get_buffer("centre").copy_(centre)
        # One scale for all dimensions, so that the reconstruction error is the share of variance that is lost.
        scale = float((variances.sum() / len(variances)).sqrt()) or 1.0
        self.get_buffer("scale").fill_(scale)
        kept = directions[:, : self.latent].float()
        spread = (variances[: self.latent].sqrt() / scale).float()
        # A direction in which these data do not vary would multiply what others do in it, so it is read a thousand
        # times as strongly as the greatest at most. Without any variance only the last bound stands.
        spread = spread.clamp_min(max(1e-3 * float(spread.max()), 1e-6))
        self.read.W.copy_(kept / spread)
        self.write.W.copy_((kept * spread).T)
        for layer in (self.encode_in, self.decode_in):
            layer.W.normal_(0.0, layer.W.shape[0] ** -0.5, generator=draw)


class AutoencoderStepper:
    """Trains an autoencoder on activations [N, D] held in memory.

    Args:
        method: its choices.
        codec: what is trained.
        data: [N, D].
        seed: of the batches.
    """

    def __init__(self, method: Infovae, codec: Autoencoder, data: Float[Tensor, "N D"], seed: int) -> None:
        self.method, self.codec, self.seed = method, codec, seed
        self.data = codec.standard(data)
        self.optimiser = torch.optim.Adam(codec.parameters(), lr=0.0, fused=True)
        self.draw = torch.Generator()

    def step(self, number: int) -> dict[str, float]:
        """Take one step on a batch drawn for this step alone, so that a resumed run draws the same."""
        method, codec = self.method, self.codec
        self.draw.manual_seed(stream(self.seed, "batch", number))
        x = self.data[torch.randint(len(self.data), (min(method.batch, len(self.data)),), generator=self.draw)]
        z = codec.squeeze(x)
        lost = ((x - codec.expand(z)) ** 2).mean()  # 1 is the variance: `scale` made it so
        prior = mmd_to_normal(z, method.bandwidth)
        loss = lost + method.prior * prior
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        through = number / max(1, method.steps)
        warm = min(1.0, (number + 1) / 50)
        for group in self.optimiser.param_groups:
            group["lr"] = method.rate * warm * 0.5 * (1 + math.cos(math.pi * through))
        self.optimiser.step()
        return {"loss": loss.item(), "lost": lost.item(), "mmd": prior.item()}

    def state(self) -> State:
        return State.of(self.optimiser, codec=self.codec)

    def load(self, state: State) -> None:
        state.load_into(self.optimiser, codec=self.codec)


def train_autoencoder(method: Infovae, data: Float[Tensor, "N D"], seed: int, run: Draft) -> Autoencoder:
    """Return an autoencoder trained as the method says."""
    draw = torch.Generator().manual_seed(stream(seed, "weights"))
    codec = Autoencoder(data.shape[1], method.latent, max(1, round(method.hidden * data.shape[1])))
    codec.start_at_principal_components(data, draw)
    stepper = AutoencoderStepper(method, codec, data, seed)
    advance(stepper, run, steps=method.steps, log_every=max(1, method.steps // 20), per_step=method.batch)
    return codec.requires_grad_(False)
