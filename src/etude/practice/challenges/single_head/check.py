"""Whether a head reads, moves and writes what it should, and moves nothing backwards."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from etude.practice.exam import Exam


def check(theirs: Any, exam: Exam) -> None:
    """Ask what a head writes, that changing the last position changes no other, and for the gradient."""
    B, T, D, K = exam.sizes(4, least=3)
    for many, length in ((B, T), (B, 1), (1, T)):
        x, weights = exam.normal(many, length, D), _weights(exam, D, K)
        exam.same(
            theirs.single_head(x, *weights),
            _head(x, *weights),
            "your output",
            unless=_mistakes(x, *weights) | _seeing(exam, theirs, x, weights),
        )
    W_Q, W_K, W_V, W_O = _weights(exam, D, K)
    given = {"x": exam.normal(B, T, D), "W_Q": W_Q, "W_K": W_K, "W_V": W_V, "W_O": W_O}
    exam.gradients(theirs.single_head, _head, given, "your output")


def _mistakes(x: Tensor, W_Q: Tensor, W_K: Tensor, W_V: Tensor, W_O: Tensor) -> dict[str, Tensor]:
    """Return what the usual mistakes give."""
    q, k, v = x @ W_Q, x @ W_K, x @ W_V
    z = scaled_dot_product_attention(q, k, v, is_causal=True)
    return {
        "these are the mixed values before W_O, [B, T, K]: the output is theirs in the stream, [B, T, D]": z,
        "your head adds x to what it writes: the block adds it, the head returns its own part": z @ W_O + x,
        "queries and keys have changed places: W_Q makes the queries, one for each row of the pattern": (
            _head(x, W_K, W_Q, W_V, W_O)
        ),
        "your values are made with W_K: they are x W_V": _head(x, W_Q, W_K, W_K, W_O),
        "your values are x itself: they are x W_V": scaled_dot_product_attention(q, k, x, is_causal=True),
        "your scores are divided by √D, the width of the stream: K, the width of queries and keys, is what they are"
        " summed over": scaled_dot_product_attention(q, k, v, is_causal=True, scale=x.shape[-1] ** -0.5) @ W_O,
        "the softmax runs over the queries: each query, a row, shares itself out over its keys, dim=-1": (
            (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(_future(x), float("-inf")).softmax(-2) @ v @ W_O
        ),
        "your scores are not divided by √K": scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0) @ W_O,
    }


def _future(x: Tensor) -> Tensor:
    """Return where a key is later than its query, [T, T]."""
    return torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)


def _seeing(exam: Exam, theirs: Any, x: Tensor, weights: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Return what is to be said of an output by its positions: what they see that they should not, or cannot see."""
    got, T = theirs.single_head(x, *weights), x.shape[1]
    if not isinstance(got, Tensor) or got.shape != x.shape:
        return {}
    if got[:, 0].isnan().any():
        return {"position 0 is not a number: it has nothing to attend to. It may see itself, j <= i": got}
    other = x.clone()
    other[:, -1] += exam.normal(x.shape[0], x.shape[2])
    moved = (theirs.single_head(other, *weights) - got).abs().amax((0, 2))[:-1] > 1e-5
    if not moved.any():
        return {}
    first = int(moved.nonzero()[0])
    if first == T - 2 and T > 2:
        return {f"position {first} sees position {T - 1}: the mask begins one position too far": got}
    return {f"your output at position {first} changes when the last position does, which is in its future": got}


def _weights(exam: Exam, D: int, K: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the four maps, of a size that leaves scores and outputs near 1."""
    W_Q, W_K, W_V = (exam.normal(D, K, scale=1.3 / math.sqrt(D)) for _ in range(3))
    return W_Q, W_K, W_V, exam.normal(K, D, scale=1 / math.sqrt(K))


def _head(x: Tensor, W_Q: Tensor, W_K: Tensor, W_V: Tensor, W_O: Tensor) -> Tensor:
    """Return what PyTorch's attention makes of the projected stream."""
    return scaled_dot_product_attention(x @ W_Q, x @ W_K, x @ W_V, is_causal=True) @ W_O
