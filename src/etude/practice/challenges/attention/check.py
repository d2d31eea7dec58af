"""Whether attention scales its scores, shares them out over the keys, and mixes the values."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from etude.practice.exam import Exam

AXES = ("query", "key")


def check(theirs: Any, exam: Exam) -> None:
    """Ask for pattern and output without a mask and with one, in several shapes, and for the gradient."""
    batch, heads, T, S, K, V = exam.sizes(6)
    for many in ((), (batch,), (batch, heads)):
        q, k, v = exam.normal(*many, T, K, scale=1.5), exam.normal(*many, S, K), exam.normal(*many, S, V)
        output, pattern = _pair(theirs, exam, q, k, v)
        _unmasked(exam, q, k, v, pattern)
        want = scaled_dot_product_attention(q, k, v)
        exam.same(output, want, "your output", unless={"your output is scaled again by √K": want / math.sqrt(K)})
        mask = _mask(exam, T, S)
        output, pattern = _pair(theirs, exam, q, k, v, mask)
        _masked(exam, q, k, mask, pattern)
        exam.same(output, scaled_dot_product_attention(q, k, v, mask), "your output with a mask")
    q, k, v = exam.normal(1, K), exam.normal(1, K), exam.normal(1, V)
    exam.same(theirs.attention(q, k, v)[0], v, "your output for one query and one key (the value itself)")
    mask = _mask(exam, T, S)
    exam.gradients(
        lambda q, k, v: theirs.attention(q, k, v, mask)[0],
        lambda q, k, v: scaled_dot_product_attention(q, k, v, mask),
        {"q": exam.normal(batch, T, K), "k": exam.normal(batch, S, K), "v": exam.normal(batch, S, V)},
        "your output",
    )


def _pair(theirs: Any, exam: Exam, *given: Tensor) -> tuple[Tensor, Tensor]:
    """Return the learner's output and pattern, once they have the shapes that they must have."""
    got, (q, k, v) = theirs.attention(*given), given[:3]
    exam.ask(
        isinstance(got, tuple) and len(got) == 2, "attention returns a pair: the output, and the pattern that made it"
    )
    *many, T, V = *q.shape[:-1], v.shape[-1]
    shapes = [list(getattr(each, "shape", ())) for each in got]
    exam.ask(
        shapes != [[*many, T, k.shape[-2]], [*many, T, V]],
        "the pattern comes first and the output second: return the output, then the pattern",
    )
    exam.shaped(got[1], (*many, T, k.shape[-2]), "your pattern", AXES)
    exam.shaped(got[0], (*many, T, V), "your output")
    return got


def _unmasked(exam: Exam, q: Tensor, k: Tensor, v: Tensor, pattern: Tensor) -> None:
    """Ask that a pattern is softmax(q kᵀ / √K) over the keys."""
    exam.sums_to_one(pattern, "your pattern", row="query")
    raw, K = q @ k.mT, q.shape[-1]
    exam.same(
        pattern,
        _pattern(q, k),
        "your pattern",
        axes=AXES,
        unless={
            "your scores are not divided by √K: their spread grows with the width K of the keys": raw.softmax(-1),
            "your scores are divided by K, not by its root: a sum of K products spreads as √K": (raw / K).softmax(-1),
            "your scores are divided by the root of V, the width of the values: it is K, the width of the keys, over"
            " which they are summed": (raw / math.sqrt(v.shape[-1])).softmax(-1),
            "your scores are divided by the root of the number of keys: it is K, the width of the keys": (
                raw / math.sqrt(k.shape[-2])
            ).softmax(-1),
            "your scores are multiplied by √K: they are divided by it": (raw * math.sqrt(K)).softmax(-1),
        },
    )


def _masked(exam: Exam, q: Tensor, k: Tensor, mask: Tensor, pattern: Tensor) -> None:
    """Ask that a pattern gives to allowed keys what the mask leaves them."""
    every = _pattern(q, k)
    exam.same(
        pattern,
        _pattern(q, k, mask),
        "your pattern with a mask",
        axes=AXES,
        unless={
            "the mask changes nothing: your pattern is the one without it": every,
            "your mask is the wrong way round: it is true where a query may see a key": _pattern(q, k, ~mask),
            "the mask is applied after the softmax, so that a row does not sum to 1: what is hidden has to be hidden"
            " before the shares are dealt out": every * mask,
            "the scores of hidden keys become 0, and exp(0) is 1: which score has no exponential?": (
                (q @ k.mT / math.sqrt(q.shape[-1]) * mask).softmax(-1)
            ),
        },
    )


def _pattern(q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the pattern as PyTorch has it: what comes out where each value is a unit vector."""
    return scaled_dot_product_attention(q, k, torch.eye(k.shape[-2]).expand(*k.shape[:-2], -1, -1), mask)


def _mask(exam: Exam, T: int, S: int) -> Tensor:
    """Return a mask under which each query sees one key at least and misses one at least."""
    mask, at = exam.uniform(T, S) < 0.5, exam.integers(S, T)
    mask[torch.arange(T), at], mask[torch.arange(T), (at + 1) % S] = True, False
    return mask
