"""Multi-head attention (Vaswani et al. 2017, section 3.2.2): several heads look at once, and each adds its answer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from etude.core.errors import UsageError
from etude.nn.attention.base import AttentionShape
from etude.nn.dot_product import attention_pattern, attention_scores, fused_attention
from etude.nn.linear import bias, linear, weight
from etude.nn.positions import Rotary
from etude.nn.precision import lowered
from etude.nn.rule import Rule
from etude.nn.taps import Tap
from etude.nn.view import PLAIN, View


def split_heads(
    x: Float[Tensor, "*N D"], W: Float[Tensor, "D H K"], b: Float[Tensor, "H K"] | None
) -> Float[Tensor, "*N H K"]:
    """Return each head's own view of the stream (queries, keys or values), by one matrix product for all heads."""
    every_head = linear(x, W.flatten(1), None if b is None else b.flatten())
    return every_head.unflatten(-1, W.shape[1:])


def joined(
    Ws: Sequence[Float[Tensor, "D _ K"]], bs: Sequence[Float[Tensor, "_ K"] | None]
) -> tuple[Float[Tensor, "D M"], Float[Tensor, " M"] | None]:
    """Return several maps that read the same stream as one, whose columns are theirs in turn."""
    there = [b.flatten() for b in bs if b is not None]
    return torch.cat([W.flatten(1) for W in Ws], dim=1), torch.cat(there) if there else None


def join_heads(
    z: Float[Tensor, "B T H K"], W: Float[Tensor, "H K D"], b: Float[Tensor, " D"] | None
) -> Float[Tensor, "B T D"]:
    """Return the sum over heads of what each writes to the stream, by one matrix product for all heads."""
    return linear(z.flatten(-2), W.flatten(0, 1), b)


def head_outputs(z: Float[Tensor, "B T H K"], W: Float[Tensor, "H K D"]) -> Float[Tensor, "B T H D"]:
    """Return what each head writes to the stream by itself. Their sum is `join_heads` without its bias."""
    return torch.einsum("bthk,hkd->bthd", z, W)


def shared(x: Float[Tensor, "B S G K"], heads: int) -> Float[Tensor, "B S H K"]:
    """Return keys or values once for every head that shares them: head h reads group h · G // H (Ainslie et al. 2023,
    section 2.2)."""
    each = heads // x.shape[2]
    return x if each == 1 else x.repeat_interleave(each, dim=2)


_Queries = tuple[Float[Tensor, "B T H K"], Float[Tensor, "B S G K"], Float[Tensor, "B S G K"]]
"""Queries, keys and values."""


class MultiHead(nn.Module):
    """Attention of several heads, over one text or (`shape.cross`) from a text over a source.

    Scores and pattern exist only while somebody watches their taps; otherwise PyTorch's fused kernel does the same sum
    without them. `head_out` too is made only when watched. The two paths agree to rounding, and dropout draws other
    random numbers in each.

    Sites: `q`, `z` [B T H K], `k`, `v` [B S H K] (G groups in place of H where keys and values are shared; `q_rot`,
    `k_rot` where positions are rotary), `scores` and `pattern` [B H T S], `head_out` [B T H D], `out` [B T D]. Scores
    are those before the mask, so a function put there never opens the future; a function put at the pattern can. With
    a past, S counts the positions that are kept, and k and v are those of the new ones.

    Attributes:
        together: the maps to queries, keys and values as one (`joined`), which is then used in their place: for a twin
            whose weights stay as they are (`etude.models.prepared`). None in a model.
    """

    def __init__(self, shape: AttentionShape, rule: Rule | None = None) -> None:
        """
        Args:
            shape: sizes and options.
            rule: who may see whom; None is what the shape says: everybody before, or everybody.
        """
        super().__init__()
        D, H, G, K = shape.width, shape.heads, shape.groups, shape.head_width
        E = shape.read_width
        self.W_Q, self.W_K, self.W_V, self.W_O = weight(D, H, K), weight(E, G, K), weight(E, G, K), weight(H, K, D)
        self.b_Q, self.b_K, self.b_V = (bias(shape.biases, heads, K) for heads in (H, G, G))
        self.b_O = bias(shape.biases, D)
        self.heads, self.cross, self.dropout, self.scale = H, shape.cross, shape.dropout, shape.scale
        self.widths, self.head_width = (H * K, G * K, G * K), K
        self.together: tuple[Tensor, Tensor | None] | None = None
        self.rule = rule or Rule(causal=shape.causal)
        group = {"H": H} if G == H else {"G": G}
        (letter,) = group
        read = "E" if shape.source else "D"
        self.axes = {
            **_AXES,
            **dict.fromkeys(("W_K", "W_V"), f"{read} {letter} K"),
            **dict.fromkeys(_KV, f"{letter} K"),
        }
        length = "S" if shape.cross else "T"
        self.q = Tap("B T H K", H=H, K=K)
        self.k, self.v = (Tap(f"B {length} {letter} K", **group, K=K) for _ in range(2))
        self.rotary = None
        if shape.rotary_base is not None:
            self.rotary = Rotary(shape.rotary_width, shape.context, shape.rotary_base)
            self.q_rot, self.k_rot = Tap("B T H K", H=H, K=K), Tap(f"B {length} {letter} K", **group, K=K)
        self.scores, self.pattern = Tap("B H T S", H=H), Tap("B H T S", H=H)
        self.z = Tap("B T H K", H=H, K=K)
        self.head_out = Tap("B T H D", H=H, D=D)
        self.out = Tap("B T D", D=D)

    def forward(self, x: Float[Tensor, "B T D"], view: View = PLAIN) -> Float[Tensor, "B T D"]:
        x = lowered(x)
        q, k, v = self._of_source(x, view) if self.cross else self._of_text(x, view)
        visible = view.source_visible if self.cross else view.visible
        if visible is not None and visible.shape[-1] > k.shape[1]:
            visible = visible[..., -k.shape[1] :]  # a window keeps the last positions alone
        return self.out(self._write(self.z(self._attend(q, k, v, visible))))

    def _of_text(self, x: Float[Tensor, "B T D"], view: View) -> _Queries:
        """Return queries, keys and values of the text, and of what came before it where a past is kept."""
        q, k, v = self._read(x)
        q, k, v = self.q(q), self.k(k), self.v(v)
        if self.rotary is not None:
            q = self.q_rot(self.rotary(q, view.positions))
            k = self.k_rot(self.rotary(k, view.positions))
        return (q, k, v) if view.past is None else (q, *view.past.extend(self, k, v, self.rule.window))

    def _read(self, x: Float[Tensor, "B T D"]) -> _Queries:
        """Return queries, keys and values of a text by one product, where the maps lie ready for it or joining them
        costs less than small products do (in bf16, for a training step), or else by three."""
        together = self.together
        if together is None:
            Ws, bs = (self.W_Q, self.W_K, self.W_V), (self.b_Q, self.b_K, self.b_V)
            if x.dtype != torch.bfloat16 or not torch.is_grad_enabled():
                return split_heads(x, Ws[0], bs[0]), split_heads(x, Ws[1], bs[1]), split_heads(x, Ws[2], bs[2])
            together = joined(Ws, bs)
        q, k, v = linear(x, *together).split(self.widths, dim=-1)
        one = -1, self.head_width
        return q.unflatten(-1, one), k.unflatten(-1, one), v.unflatten(-1, one)

    def _of_source(self, x: Float[Tensor, "B T D"], view: View) -> _Queries:
        """Return queries of the text, and keys and values of the source. The latter are made once where a past is
        kept. Texts that follow each other share a source where there are fewer sources."""
        q = self.q(split_heads(x, self.W_Q, self.b_Q))
        if self.rotary is not None:
            q = self.q_rot(self.rotary(q, view.positions))
        kept = None if view.past is None else view.past.source(self)
        if kept is not None:
            return q, *kept
        if view.source is None:
            raise UsageError("cross-attention has no source to read: call the model with source=")
        k = self.k(split_heads(view.source, self.W_K, self.b_K))
        v = self.v(split_heads(view.source, self.W_V, self.b_V))
        if self.rotary is not None:
            k = self.k_rot(self.rotary(k))
        if len(k) != len(q):
            each = len(q) // len(k)
            k, v = k.repeat_interleave(each, dim=0), v.repeat_interleave(each, dim=0)
        if view.past is not None:
            view.past.keep_source(self, k, v)
        return q, k, v

    def _attend(
        self,
        q: Float[Tensor, "B T H K"],
        k: Float[Tensor, "B S G K"],
        v: Float[Tensor, "B S G K"],
        visible: Bool[Tensor, "B 1 #T S"] | None,
    ) -> Float[Tensor, "B T H K"]:
        dropout, T, S = self.dropout if self.training else 0.0, q.shape[1], k.shape[1]
        watched = self.scores.watched or self.pattern.watched
        limited = not self.cross and self.rule.limits(T, S)
        # The kernel knows the causal mask by itself, and is fastest where it is not handed one.
        known = limited and not watched and visible is None and self.rule == _CAUSAL and T == S
        mask = self.rule.mask(T, S, q.device) if limited and not known else None
        if visible is not None:
            mask = visible if mask is None else visible & mask
        if T == 1 and not watched:
            # A text that grows by a token: the heads of a group are then so many queries of one place, and their keys
            # and values need no repeating.
            grouped = q.unflatten(2, (k.shape[2], -1)).squeeze(1)
            z = fused_attention(grouped, k.transpose(1, 2), v.transpose(1, 2), mask, dropout, False, self.scale)
            return z.flatten(1, 2).unsqueeze(1)
        q, k, v = (y.transpose(1, 2) for y in (q, shared(k, self.heads), shared(v, self.heads)))
        if not watched:
            return fused_attention(q, k, v, mask, dropout, known, self.scale).transpose(1, 2)
        pattern = self.pattern(attention_pattern(self.scores(attention_scores(q, k, self.scale)), mask))
        return (F.dropout(pattern, dropout) @ v).transpose(1, 2)

    def _write(self, z: Float[Tensor, "B T H K"]) -> Float[Tensor, "B T D"]:
        if not self.head_out.watched:
            return join_heads(z, self.W_O, self.b_O)
        written = self.head_out(head_outputs(z, self.W_O)).sum(dim=2)
        return written if self.b_O is None else written + self.b_O


_CAUSAL = Rule()
_KV = ("b_K", "b_V")
_AXES = {"W_Q": "D H K", "b_Q": "H K", "W_O": "H K D", "b_O": "D"}
