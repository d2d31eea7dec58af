"""Chunked cross-attention (Borgeaud et al. 2021, section 2.4): each chunk of a text looks at the neighbours of the one
before it.

A chunk's neighbours were found by all of its tokens, so the first position that may read them is its last one, which
predicts the next chunk's first token. The m positions from there on, the last of chunk u and all but the last of chunk
u + 1, attend to the neighbours of chunk u; the first m - 1 positions of a text attend to nothing.

Distances are those of the text that a neighbour would be if it began where its chunk begins: position i of the m that
attend and position j of a neighbour are i - j + m - 1 apart, whichever neighbour it is.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from etude.core.errors import UsageError
from etude.nn.attention.base import AttentionShape
from etude.nn.dot_product import attention_pattern, attention_scores, fused_attention
from etude.nn.linear import bias, weight
from etude.nn.multi_head import head_outputs, join_heads, shared, split_heads
from etude.nn.positions import Rotary
from etude.nn.precision import lowered
from etude.nn.taps import Tap
from etude.nn.view import PLAIN, View


class Lot(NamedTuple):
    """How positions of a text fall into the lots of m that attend together.

    Attributes:
        size: positions in a lot, those of a chunk.
        skipped: positions at the front that attend to nothing.
        begun: positions of the first lot that came in earlier calls.
        lots: how many lots there are.
    """

    size: int
    skipped: int
    begun: int
    lots: int

    @classmethod
    def of(cls, positions: int, size: int, before: int = 0) -> Lot:
        """Return the lots of so many positions that follow those before them."""
        skipped = min(positions, max(0, size - 1 - before))
        begun = (before + 1) % size if before >= size else 0
        attending = positions - skipped
        return cls(size, skipped, begun, -(-(begun + attending) // size) if attending else 0)

    def divide(self, x: Float[Tensor, "B T *Z"]) -> Float[Tensor, "B U M *Z"]:
        """Return the positions lot by lot, with zeros where a lot is not full."""
        x = x[:, self.skipped :]
        over = self.lots * self.size - self.begun - x.shape[1]
        x = F.pad(x, (0, 0) * (x.ndim - 2) + (self.begun, over))
        return x.unflatten(1, (self.lots, self.size))

    def join(self, y: Float[Tensor, "B U M *Z"], positions: int) -> Float[Tensor, "B T *Z"]:
        """Return what was divided in its order, with zeros at the positions that attend to nothing."""
        flat = y.flatten(1, 2)[:, self.begun : self.begun + positions - self.skipped]
        return F.pad(flat, (0, 0) * (flat.ndim - 2) + (self.skipped, 0))


def places(positions: int, size: int, before: int = 0, device: torch.device | None = None) -> Int[Tensor, " T"]:
    """Return where each position stands on the scale on which a neighbour begins at 0: m - 1 for the first of a lot."""
    return size - 1 + (torch.arange(before, before + positions, device=device) + 1) % size


def chunked_attention(
    q: Float[Tensor, "B U M H K"],
    k: Float[Tensor, "B U S H K"],
    v: Float[Tensor, "B U S H K"],
    visible: Bool[Tensor, "B U S"] | None = None,
    dropout: float = 0.0,
    scale: float | None = None,
) -> Float[Tensor, "B U M H K"]:
    """Return attention of each lot over all positions of all neighbours of its chunk, in one softmax.

    Args:
        q: queries, lot by lot.
        k: keys of the neighbours' positions, one neighbour after the other.
        v: their values.
        visible: which of these positions are text; None is all. A lot that sees none is given zeros.
        dropout: chance that a weight of the pattern is dropped.
        scale: what products are multiplied by; None is 1/√K.
    """
    lots = q.shape[:2]
    q, k, v = (y.flatten(0, 1).transpose(1, 2) for y in (q, k, v))
    if visible is None:
        return fused_attention(q, k, v, None, dropout, False, scale).transpose(1, 2).unflatten(0, lots)
    some = visible.any(-1, keepdim=True)
    mask = (visible | ~some).flatten(0, 1)[:, None, None]
    z = fused_attention(q, k, v, mask, dropout, False, scale).transpose(1, 2).unflatten(0, lots)
    return z * some[..., None, None]


class ChunkedCrossAttention(nn.Module):
    """Multi-head attention from the positions of a text to the neighbours of its chunks. It reads `neighbours` and
    `neighbours_visible` of the view; what attends to nothing is given nothing, not even a bias.

    Sites: `q`, `q_rot`, `z` [B T H K], `k`, `k_rot`, `v` [B U J R H K] (G where keys are shared by a group of heads),
    `scores` and `pattern` [B H T J R], zero at the first positions, `head_out` [B T H D], `out` [B T D].

    Args:
        shape: sizes and options; its `source` is the width of an encoded neighbour.
        size: tokens in a chunk.
        length: positions of a neighbour with its continuation.
    """

    def __init__(self, shape: AttentionShape, size: int, length: int) -> None:
        super().__init__()
        D, E, H, G, K = shape.width, shape.read_width, shape.heads, shape.groups, shape.head_width
        self.W_Q, self.W_K, self.W_V, self.W_O = weight(D, H, K), weight(E, G, K), weight(E, G, K), weight(H, K, D)
        self.b_Q, self.b_K, self.b_V = (bias(shape.biases, heads, K) for heads in (H, G, G))
        self.b_O = bias(shape.biases, D)
        self.heads, self.size, self.dropout, self.scale = H, size, shape.dropout, shape.scale
        if shape.rotary_base is None:
            raise UsageError("chunked cross-attention knows where a neighbour's tokens stand by rotary positions alone")
        self.rotary = Rotary(shape.rotary_width, max(2 * size, length), shape.rotary_base)
        group = {"H": H} if G == H else {"G": G}
        (letter,) = group
        self.axes = {"W_Q": "D H K", "b_Q": "H K", "W_O": "H K D", "b_O": "D"}
        self.axes |= {"W_K": f"E {letter} K", "W_V": f"E {letter} K", "b_K": f"{letter} K", "b_V": f"{letter} K"}
        self.q, self.q_rot, self.z = (Tap("B T H K", H=H, K=K) for _ in range(3))
        self.k, self.k_rot, self.v = (Tap(f"B U J R {letter} K", R=length, **group, K=K) for _ in range(3))
        self.scores, self.pattern = (Tap("B H T J R", H=H, R=length) for _ in range(2))
        self.head_out = Tap("B T H D", H=H, D=D)
        self.out = Tap("B T D", D=D)

    def forward(self, x: Float[Tensor, "B T D"], view: View = PLAIN) -> Float[Tensor, "B T D"]:
        read, visible, T = view.neighbours, view.neighbours_visible, x.shape[1]
        if read is None:
            raise UsageError("chunked cross-attention has no neighbours to read: call the model with neighbours=")
        lot = Lot.of(T, self.size, view.before)
        if lot.lots != read.shape[1]:
            raise UsageError(
                f"{T} positions attend to neighbours of {lot.lots} chunks, and of {read.shape[1]} are given"
            )
        if not lot.lots:
            return self.out(torch.zeros_like(x))
        x, read = lowered(x), lowered(read)
        q = self.q(split_heads(x, self.W_Q, self.b_Q))
        stands = places(T, self.size, view.before, x.device).expand(len(x), T)
        q = lot.divide(self.q_rot(self.rotary(q, stands)))
        k, v = (split_heads(read, W, b) for W, b in ((self.W_K, self.b_K), (self.W_V, self.b_V)))
        k, v = self.k(k), self.v(v)
        k = self.k_rot(self.rotary(k.flatten(0, 2)).unflatten(0, k.shape[:3]))
        z = lot.join(self._attend(q, k, v, visible, lot, T), T)
        written = self._write(self.z(z))
        return self.out(written * self._attends(lot, visible, T, x.device)[..., None])

    def _attend(
        self,
        q: Float[Tensor, "B U M H K"],
        k: Float[Tensor, "B U J R G K"],
        v: Float[Tensor, "B U J R G K"],
        visible: Bool[Tensor, "B U J R"] | None,
        lot: Lot,
        T: int,
    ) -> Float[Tensor, "B U M H K"]:
        dropout, JR = self.dropout if self.training else 0.0, k.shape[2:4]
        k, v = (_of_heads(y.flatten(2, 3), self.heads) for y in (k, v))
        seen = None if visible is None else visible.flatten(2)
        if not (self.scores.watched or self.pattern.watched):
            return chunked_attention(q, k, v, seen, dropout, self.scale)

        def shown(tap: Tap, y: Tensor) -> Tensor:
            """Pass [B U H M S] by a tap as [B H T J R]."""
            there = lot.join(y.transpose(2, 3), T).unflatten(-1, JR).transpose(1, 2)
            return lot.divide(tap(there).transpose(1, 2).flatten(-2)).transpose(2, 3)

        q, k, v = (y.transpose(2, 3) for y in (q, k, v))
        scores = shown(self.scores, attention_scores(q, k, self.scale))
        if seen is None:
            pattern = attention_pattern(scores)
        else:
            some = seen.any(-1, keepdim=True)
            pattern = attention_pattern(scores, (seen | ~some)[:, :, None, None]) * some[:, :, None, None]
        return (F.dropout(shown(self.pattern, pattern), dropout) @ v).transpose(2, 3)

    def _attends(self, lot: Lot, visible: Tensor | None, T: int, device: torch.device) -> Float[Tensor, "#B T"]:
        """Return 1 for positions that attend to something, and 0 for others."""
        some = torch.ones(1, lot.lots, device=device) if visible is None else visible.flatten(2).any(-1).float()
        return lot.join(some[..., None, None].expand(-1, -1, lot.size, 1), T)[..., 0]

    def _write(self, z: Float[Tensor, "B T H K"]) -> Float[Tensor, "B T D"]:
        if not self.head_out.watched:
            return join_heads(z, self.W_O, self.b_O)
        written = self.head_out(head_outputs(z, self.W_O)).sum(dim=2)
        return written if self.b_O is None else written + self.b_O


def _of_heads(x: Float[Tensor, "B U S G K"], heads: int) -> Float[Tensor, "B U S H K"]:
    return shared(x.flatten(0, 1), heads).unflatten(0, x.shape[:2])
