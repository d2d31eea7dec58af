"""How a model knows where a token stands: sinusoids and learned vectors are added to the embeddings, rotary positions
turn the queries and keys."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


def angles(positions: int, pairs: int, base: float = 10_000.0) -> Float[Tensor, "T P"]:
    """Return position · base^(-pair / pairs) in radians, in double precision: the slow clocks are far below 1."""
    rates = base ** -(torch.arange(pairs, dtype=torch.float64) / pairs)
    return torch.arange(positions, dtype=torch.float64)[:, None] * rates


def sinusoids(positions: int, width: int) -> Float[Tensor, "T D"]:
    """Return the position vectors of Vaswani et al. 2017, section 3.5: sines at even places, cosines at odd ones.

    PE(pos, 2i) = sin(pos / 10000^(2i/D)) and PE(pos, 2i+1) = cos(pos / 10000^(2i/D)). The width must be even.
    """
    turned = angles(positions, width // 2)
    return torch.stack((turned.sin(), turned.cos()), dim=-1).flatten(1).to(torch.get_default_dtype())


def rotate(
    x: Float[Tensor, "B T H K"], cos: Float[Tensor, "T P"], sin: Float[Tensor, "T P"]
) -> Float[Tensor, "B T H K"]:
    """Turn each pair of coordinates by its position's angle (Su et al. 2021, section 3.4.2), so that the product of a
    query and a key depends on their distance alone.

    The pairs are (i, i + K/2), as GPT-NeoX and Llama store them; the paper pairs neighbours (2i, 2i + 1). The two are
    the same map after the columns of W_Q and W_K are permuted.
    """
    first, second = x.chunk(2, dim=-1)
    cos, sin = cos[:, None].to(x.dtype), sin[:, None].to(x.dtype)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class Rotary(nn.Module):
    """Rotary positions for queries or keys, with the sines and cosines kept. They are not weights and are not saved."""

    cos: Tensor
    sin: Tensor

    def __init__(self, head_width: int, positions: int, base: float) -> None:
        super().__init__()
        turned = angles(positions, head_width // 2, base)
        self.register_buffer("cos", turned.cos().to(torch.get_default_dtype()), persistent=False)
        self.register_buffer("sin", turned.sin().to(torch.get_default_dtype()), persistent=False)

    def forward(self, x: Float[Tensor, "B T H K"]) -> Float[Tensor, "B T H K"]:
        return rotate(x, self.cos[: x.shape[1]], self.sin[: x.shape[1]])
