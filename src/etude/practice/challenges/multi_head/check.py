"""Whether heads are split, kept apart and joined as they should be."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import multi_head_attention_forward, scaled_dot_product_attention

from etude.practice.differences import close
from etude.practice.exam import TOLERANCE, Exam


def check(theirs: Any, exam: Exam) -> None:
    """Ask for several heads, one head and one position, that nothing looks ahead, and for the gradient."""
    B, T, H, K = exam.sizes(4, most=7)
    D = H * K
    for many, length, heads in ((B, T, H), (B, 1, H), (1, T, 1)):
        x, weights = exam.normal(many, length, D), [exam.normal(D, D, scale=1.3 / math.sqrt(D)) for _ in range(4)]
        got = theirs.multi_head(x, *weights, heads)
        exam.shaped(got, (many, length, D), "your output", ("text", "position", "width"))
        mistakes = _mistakes(x, weights, heads)
        if not any(close(got, each, TOLERANCE) for each in mistakes.values()):
            _ask_no_future(theirs, exam, x, weights, heads)
        exam.same(got, _heads(x, *weights, heads=heads), "your output", unless=mistakes)
    weights = [exam.normal(D, D, scale=1.3 / math.sqrt(D)) for _ in range(4)]
    exam.gradients(
        lambda *given: theirs.multi_head(*given, H),
        lambda *given: _heads(*given, heads=H),
        dict(zip(("x", "W_Q", "W_K", "W_V", "W_O"), (exam.normal(B, T, D), *weights), strict=True)),
        "your output",
    )


def _mistakes(x: Tensor, weights: list[Tensor], heads: int) -> dict[str, Tensor]:
    """Return what the usual mistakes give."""
    (B, T, D), K, W_O = x.shape, x.shape[2] // heads, weights[3]
    projected = [x @ W for W in weights[:3]]
    split = [each.reshape(B, T, heads, K).transpose(1, 2) for each in projected]
    mixed = _attend([each.reshape(B, heads, T, K) for each in projected])
    strided = _attend([each.reshape(B, T, K, heads).permute(0, 3, 1, 2) for each in projected])
    right = _attend(split)
    return {
        "your output mixes heads with positions where they are split: [B, T, D] becomes [B, T, H, K] first, and T and"
        " H change places after": _joined(mixed) @ W_O,
        "your output mixes heads with positions, where they are split and where they are joined: [B, T, D] becomes"
        " [B, T, H, K] first, and T and H change places after": mixed.reshape(B, T, D) @ W_O,
        "your output mixes heads with positions where they are joined: [B, H, T, K] becomes [B, T, H, K] again before"
        " the heads are put side by side": right.reshape(B, T, D) @ W_O,
        "your head h has every H-th column of the queries, keys and values: it takes K neighbours, from hK on": (
            _joined(strided) @ W_O
        ),
        "your head h has every H-th column, where they are split and where they are joined: it takes K"
        " neighbours, from hK on": strided.permute(0, 2, 3, 1).reshape(B, T, D) @ W_O,
        "this is a single head of width D: each head has a pattern of its own": _heads(x, *weights, heads=1),
        "your scores are divided by √D: a head's queries and keys are K = D / H wide": (
            _joined(_attend(split, scale=1 / math.sqrt(D))) @ W_O
        ),
        "your scores are not divided by √K": _joined(_attend(split, scale=1.0)) @ W_O,
        "these are the heads side by side before W_O: it takes them back to the stream": _joined(right),
        "x is added to your output: the block adds it, attention returns what it writes alone": (
            _joined(right) @ W_O + x
        ),
    }


def _ask_no_future(theirs: Any, exam: Exam, x: Tensor, weights: list[Tensor], heads: int) -> None:
    """Ask that no position's output changes with the last position, but its own."""
    other = x.clone()
    other[:, -1] += exam.normal(x.shape[0], x.shape[2])
    first, second = (theirs.multi_head(each, *weights, heads) for each in (x, other))
    exam.ask(
        not first.isnan().any(), "your output is not a number: is a position's own key hidden too? It may see itself"
    )
    moved = (first - second).abs().amax((0, 2))[:-1] > 1e-5
    exam.ask(
        not moved.any(),
        f"your output at position {int(moved.long().argmax()) if moved.any() else 0} changes when position"
        f" {x.shape[1] - 1} does, which is in its future",
    )


def _attend(qkv: list[Tensor], scale: float | None = None) -> Tensor:
    """Return what causal attention makes of queries, keys and values, each [B, H, T, K]."""
    q, k, v = qkv
    return scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)


def _joined(z: Tensor) -> Tensor:
    """Return the heads [B, H, T, K] side by side, [B, T, D]."""
    return z.transpose(1, 2).flatten(2)


def _heads(x: Tensor, W_Q: Tensor, W_K: Tensor, W_V: Tensor, W_O: Tensor, *, heads: int) -> Tensor:
    """Return what PyTorch's multi-head attention writes, which wants positions first and each map transposed."""
    by_position = x.transpose(0, 1)
    out, _ = multi_head_attention_forward(
        by_position,
        by_position,
        by_position,
        embed_dim_to_check=x.shape[-1],
        num_heads=heads,
        in_proj_weight=torch.cat((W_Q, W_K, W_V), dim=1).mT,
        in_proj_bias=None,
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=W_O.mT,
        out_proj_bias=None,
        need_weights=False,
        attn_mask=torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1),
    )
    return out.transpose(0, 1)
