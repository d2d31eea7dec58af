"""Multi-head attention (Vaswani et al. 2017, section 3.2.2): several heads look at once, and each adds its answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from etude.nn.attention.base import AttentionShape
from etude.nn.dot_product import attention_pattern, attention_scores, causal_mask, fused_attention
from etude.nn.linear import bias, linear, weight
from etude.nn.positions import Rotary
from etude.nn.taps import Tap

Mask = Callable[[int, torch.device], Bool[Tensor, "T S"]]
"""Who may see whom, for a text of some length: a function to a matrix that is true where T may see S."""


def split_heads(
    x: Float[Tensor, "B T D"], W: Float[Tensor, "D H K"], b: Float[Tensor, "H K"] | None
) -> Float[Tensor, "B T H K"]:
    """Return each head's own view of the stream (queries, keys or values), by one matrix product for all heads."""
    every_head = linear(x, W.flatten(1), None if b is None else b.flatten())
    return every_head.unflatten(-1, W.shape[1:])


def join_heads(
    z: Float[Tensor, "B T H K"], W: Float[Tensor, "H K D"], b: Float[Tensor, " D"] | None
) -> Float[Tensor, "B T D"]:
    """Return the sum over heads of what each writes to the stream, by one matrix product for all heads."""
    return linear(z.flatten(-2), W.flatten(0, 1), b)


def head_outputs(z: Float[Tensor, "B T H K"], W: Float[Tensor, "H K D"]) -> Float[Tensor, "B T H D"]:
    """Return what each head writes to the stream by itself. Their sum is `join_heads` without its bias."""
    return torch.einsum("bthk,hkd->bthd", z, W)


class MultiHead(nn.Module):
    """Self-attention of several heads over one text.

    Scores and pattern exist only while somebody watches their taps; otherwise PyTorch's fused kernel does the same sum
    without them. `head_out` too is made only when watched. The two paths agree to rounding, and dropout draws other
    random numbers in each.

    Sites: `q`, `k`, `v` and `z` [B T H K] (`q_rot`, `k_rot` where positions are rotary), `scores` and `pattern`
    [B H T S], `head_out` [B T H D], `out` [B T D]. Scores are those before the mask, so a function put there never
    opens the future; a function put at the pattern can.
    """

    axes: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("W_Q", "W_K", "W_V"), "D H K"),
        **dict.fromkeys(("b_Q", "b_K", "b_V"), "H K"),
        "W_O": "H K D",
        "b_O": "D",
    }

    def __init__(self, shape: AttentionShape, mask: Mask | None = None) -> None:
        """
        Args:
            shape: sizes and options.
            mask: who may see whom; None means each position sees itself and what came before, by the fastest kernel.
        """
        super().__init__()
        D, H, K = shape.width, shape.heads, shape.head_width
        self.W_Q, self.W_K, self.W_V, self.W_O = weight(D, H, K), weight(D, H, K), weight(D, H, K), weight(H, K, D)
        self.b_Q, self.b_K, self.b_V = (bias(shape.biases, H, K) for _ in range(3))
        self.b_O = bias(shape.biases, D)
        self.mask = mask
        self.dropout = shape.dropout
        self.q, self.k, self.v = (Tap("B T H K", H=H, K=K) for _ in range(3))
        self.rotary = None
        if shape.rotary_base is not None:
            self.rotary = Rotary(K, shape.context, shape.rotary_base)
            self.q_rot, self.k_rot = Tap("B T H K", H=H, K=K), Tap("B T H K", H=H, K=K)
        self.scores, self.pattern = Tap("B H T S", H=H), Tap("B H T S", H=H)
        self.z = Tap("B T H K", H=H, K=K)
        self.head_out = Tap("B T H D", H=H, D=D)
        self.out = Tap("B T D", D=D)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        q = self.q(split_heads(x, self.W_Q, self.b_Q))
        k = self.k(split_heads(x, self.W_K, self.b_K))
        v = self.v(split_heads(x, self.W_V, self.b_V))
        if self.rotary is not None:
            q, k = self.q_rot(self.rotary(q)), self.k_rot(self.rotary(k))
        z = self._attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return self.out(self._write(self.z(z.transpose(1, 2))))

    def _attend(
        self, q: Float[Tensor, "B H T K"], k: Float[Tensor, "B H S K"], v: Float[Tensor, "B H S K"]
    ) -> Float[Tensor, "B H T K"]:
        dropout = self.dropout if self.training else 0.0
        mask = None if self.mask is None else self.mask(q.shape[-2], q.device)
        if not (self.scores.watched or self.pattern.watched):
            return fused_attention(q, k, v, mask, dropout)
        mask = causal_mask(q.shape[-2], q.device) if mask is None else mask
        pattern = self.pattern(attention_pattern(self.scores(attention_scores(q, k)), mask))
        return F.dropout(pattern, dropout) @ v

    def _write(self, z: Float[Tensor, "B T H K"]) -> Float[Tensor, "B T D"]:
        if not self.head_out.watched:
            return join_heads(z, self.W_O, self.b_O)
        written = self.head_out(head_outputs(z, self.W_O)).sum(dim=2)
        return written if self.b_O is None else written + self.b_O
