"""The codec behind the bottleneck methods: a few numbers, read and written nonlinearly."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu

from etude.compress.codec import Codec, Cost
from etude.compress.linear import principal_directions


class Affine(nn.Module):
    """`x @ W + b`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.zeros(inputs, outputs))
        self.b = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.b, x.reshape(-1, len(self.W)), self.W).view(*x.shape[:-1], len(self.b))


class Autoencoder(Codec):
    """A linear map and a hidden layer beside it, into R latents and back.

    Args:
        width: D.
        latent: R.
        hidden: width of the hidden layers; 0 has none, so that both ways are linear.
    """

    def __init__(self, width: int, latent: int, hidden: int) -> None:
        super().__init__()
        self.latent, self.hidden = latent, hidden
        self.read, self.write = Affine(width, latent), Affine(latent, width)
        if hidden:
            self.encode_in, self.encode_out = Affine(width, hidden), Affine(hidden, latent)
            self.decode_in, self.decode_out = Affine(latent, hidden), Affine(hidden, width)
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("scale", torch.ones(()))

    @staticmethod
    def of(tensors: Mapping[str, Tensor]) -> Autoencoder:
        """Return the codec whose `state_dict` was saved."""
        width, latent = tensors["read.W"].shape
        hidden = tensors["encode_in.W"].shape[1] if "encode_in.W" in tensors else 0
        codec = Autoencoder(width, latent, hidden)
        codec.load_state_dict(dict(tensors))
        return codec.requires_grad_(False)

    def encode(self, x: Tensor) -> Tensor:
        return self.squeeze(self.standard(x))

    def decode(self, code: Tensor) -> Tensor:
        return self.original(self.expand(code))

    def standard(self, x: Tensor) -> Tensor:
        """Return activations about the centre, in units of the scale."""
        return (x - self.get_buffer("centre")) / self.get_buffer("scale")

    def original(self, x: Tensor) -> Tensor:
        """Return standard activations as they were."""
        return x * self.get_buffer("scale") + self.get_buffer("centre")

    def squeeze(self, x: Tensor) -> Tensor:
        """Return the code of standard activations."""
        return self.read(x) + self.encode_out(gelu(self.encode_in(x))) if self.hidden else self.read(x)

    def expand(self, code: Tensor) -> Tensor:
        """Return the standard activations that a code stands for."""
        return self.write(code) + self.decode_out(gelu(self.decode_in(code))) if self.hidden else self.write(code)

    def cost(self) -> Cost:
        products = sum(weight.numel() for weight in self.parameters() if weight.ndim == 2)
        held = sum(weight.numel() for weight in self.parameters())
        return Cost(self.latent, 32.0 * self.latent, held, flops=2.0 * products)

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
        for layer in (self.encode_in, self.decode_in) if self.hidden else ():
            layer.W.normal_(0.0, layer.W.shape[0] ** -0.5, generator=draw)
