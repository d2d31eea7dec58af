"""Sparse codecs: many latents, of which few are not zero for a token."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn

from etude.compress.codec import Codec, Cost


def greatest(pre: Float[Tensor, "*N F"], k: int) -> tuple[Float[Tensor, "*N K"], Int[Tensor, "*N K"]]:
    """Return the greatest `k` of the latents, 0 for those that are under 0, in no order, and which they are."""
    values, where = pre.topk(k, dim=-1, sorted=False)
    return values.relu(), where


def keep_greatest(pre: Float[Tensor, "*N F"], k: int) -> Float[Tensor, "*N F"]:
    """Return the greatest `k` of the latents where they are over 0, and 0 elsewhere; `k` 0 keeps all over 0."""
    if not 0 < k < pre.shape[-1]:
        return pre.relu()
    values, where = greatest(pre, k)
    return torch.zeros_like(pre).scatter(-1, where, values)


def support_bits(rate: Float64[Tensor, " F"]) -> float:
    """Return the bits a token that say which latents are not zero, each by itself: the sum of their binary entropies.
    Where latents fire together, or apart, fewer would do.

    Args:
        rate: how often each is not zero.
    """
    p = torch.stack((rate, 1 - rate))
    return max(0.0, float(-torch.special.xlogy(p, p).sum()) / math.log(2))


class Sparse(Codec):
    """Latents `relu((x - centre) @ W_enc + b_enc)`, of which the `k` greatest are kept; `code @ W_dec + b_dec` back.

    Args:
        width: M of what is read.
        features: F.
        written: D of what is written.
        k: how many latents are kept; 0 all that are over 0.
    """

    def __init__(self, width: int, features: int, written: int, k: int) -> None:
        super().__init__()
        self.k = k
        self.W_enc, self.b_enc = nn.Parameter(torch.zeros(width, features)), nn.Parameter(torch.zeros(features))
        self.W_dec, self.b_dec = nn.Parameter(torch.zeros(features, written)), nn.Parameter(torch.zeros(written))
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("rate", torch.zeros(features, dtype=torch.float64))

    @staticmethod
    def of(tensors: Mapping[str, Tensor], k: int) -> Sparse:
        """Return the codec whose `state_dict` was saved."""
        (width, features), written = tensors["W_enc"].shape, len(tensors["b_dec"])
        codec = Sparse(width, features, written, k)
        codec.load_state_dict(dict(tensors))
        return codec.requires_grad_(False)

    def pre(self, x: Float[Tensor, "*N M"]) -> Float[Tensor, "*N F"]:
        """Return the latents before any is set to zero."""
        away = (x - self.get_buffer("centre")).reshape(-1, x.shape[-1])
        return torch.addmm(self.b_enc, away, self.W_enc).view(*x.shape[:-1], -1)

    def encode(self, x: Tensor) -> Tensor:
        return keep_greatest(self.pre(x), self.k)

    def decode(self, code: Tensor) -> Tensor:
        return torch.addmm(self.b_dec, code.reshape(-1, code.shape[-1]), self.W_dec).view(*code.shape[:-1], -1)

    @property
    def active(self) -> float:
        """How many latents are not zero for a token of the data that it was fitted to, on average."""
        return float(self.get_buffer("rate").sum())

    @property
    def dead(self) -> int:
        """How many latents are zero for every token of those data."""
        return int((self.get_buffer("rate") == 0).sum())

    @torch.no_grad()
    def measure_rate(self, x: Float[Tensor, "N M"]) -> None:
        """Take note of how often each latent is not zero."""
        fired = sum((self._fired(piece) for piece in x.split(1024)), torch.zeros(len(self.b_enc)).long())
        self.get_buffer("rate").copy_(fired.double() / len(x))

    def _fired(self, x: Float[Tensor, "N M"]) -> Int[Tensor, " F"]:
        """Return for how many rows each latent is not zero."""
        if not self.k:
            return (self.encode(x) > 0).sum(0)
        values, where = greatest(self.pre(x), self.k)
        return torch.bincount(where[values > 0], minlength=len(self.b_enc))

    def cost(self) -> Cost:
        """Return the mean number of latents that are not zero, 32 bits for each with those that name it, and the FLOPs
        of a decoder that skips zeros."""
        (width, features), written = self.W_enc.shape, len(self.b_dec)
        bits = 32 * self.active + support_bits(self.get_buffer("rate"))
        held = sum(weight.numel() for weight in self.parameters())
        return Cost(self.active, bits, held, flops=2.0 * (width * features + self.active * written))
