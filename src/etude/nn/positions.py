"""How a model knows where a token stands: sinusoids and learned vectors are added to the embeddings, rotary positions
turn the queries and keys."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from etude.core.errors import UsageError


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
    x: Float[Tensor, "B T H K"], cos: Float[Tensor, "*B T P"], sin: Float[Tensor, "*B T P"]
) -> Float[Tensor, "B T H K"]:
    """Turn each pair of coordinates by its position's angle (Su et al. 2021, section 3.4.2), so that the product of a
    query and a key depends on their distance alone.

    The pairs are (i, i + P), as GPT-NeoX and Llama store them; the paper pairs neighbours (2i, 2i + 1). The two are
    the same map after the columns of W_Q and W_K are permuted. Coordinates from 2P on are left as they are.
    """
    pairs = cos.shape[-1]
    first, second, rest = x[..., :pairs], x[..., pairs : 2 * pairs], x[..., 2 * pairs :]
    cos, sin = cos[..., None, :].to(x.dtype), sin[..., None, :].to(x.dtype)
    return torch.cat((first * cos - second * sin, second * cos + first * sin, rest), dim=-1)


def vectors_at(ids: Int[Tensor, "B T"], table: Float[Tensor, "N D"], what: str) -> Float[Tensor, "B T D"]:
    """Return the row of a table of positions or segments at each id.

    Raises:
        UsageError: there is no such row. An accelerator reports this in its own way and later.
    """
    try:
        return F.embedding(ids, table)
    except IndexError:
        wrong = ids[(ids < 0) | (ids >= table.shape[0])]
        raise UsageError(f"{what} {int(wrong[0])} is none of 0 to {table.shape[0] - 1}, which the model has") from None


class Rotary(nn.Module):
    """Rotary positions for queries or keys, with the sines and cosines kept. They are not weights and are not saved.

    Args:
        turned: how many coordinates of each head, from the first, are turned: an even number.
        positions: the angles of so many positions are made.
        base: of the angles.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, turned: int, positions: int, base: float) -> None:
        super().__init__()
        angle = angles(positions, turned // 2, base)
        self.register_buffer("cos", angle.cos().to(torch.get_default_dtype()), persistent=False)
        self.register_buffer("sin", angle.sin().to(torch.get_default_dtype()), persistent=False)

    def forward(
        self, x: Float[Tensor, "B T H K"], positions: Int[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T H K"]:
        if positions is None:
            return rotate(x, self.cos[: x.shape[1]], self.sin[: x.shape[1]])
        return rotate(x, vectors_at(positions, self.cos, "position"), vectors_at(positions, self.sin, "position"))
