"""Whether three products sum over the right index and keep the others apart."""

from typing import Any

import torch
from torch import Tensor

from etude.practice.exam import Exam


def check(theirs: Any, exam: Exam) -> None:
    """Ask for each product with squares, with axes that all differ, with edges, and for its gradient."""
    _check_scores(theirs, exam)
    _check_weighted_sums(theirs, exam)
    _check_per_head(theirs, exam)


def _check_scores(theirs: Any, exam: Exam) -> None:
    batch, queries, keys, width = exam.sizes(4)
    for B, T, S in ((batch, queries, keys), (batch, queries, queries), (1, 1, keys)):
        q, k = exam.normal(B, T, width), exam.normal(B, S, width)
        want = _scores(q, k)
        exam.same(
            theirs.scores(q, k),
            want,
            "your scores(q, k)",
            axes=("b", "i", "j"),
            unless={
                "i and j have changed places in your scores: i, the query's, comes before j, the key's": want.mT,
                "your keys are added up over all texts: b stands on the left, so each text keeps its own": (
                    _scores(q, k.sum(0, keepdim=True).expand_as(k))
                ),
                "your scores are divided by the root of D: here the sum is all there is": want / width**0.5,
            },
        )
    given = {"q": exam.normal(batch, queries, width), "k": exam.normal(batch, keys, width)}
    exam.gradients(theirs.scores, _scores, given, "your scores")


def _check_weighted_sums(theirs: Any, exam: Exam) -> None:
    batch, queries, keys, width = exam.sizes(4)
    for B, T, S in ((batch, keys, keys), (batch, queries, keys), (1, 1, keys), (batch, queries, 0)):
        p, v = exam.normal(B, T, S), exam.normal(B, S, width)
        want = _weighted_sums(p, v)
        exam.same(
            theirs.weighted_sums(p, v),
            want,
            "your weighted_sums(p, v)",
            axes=("b", "i", "d"),
            unless={
                "p is read transposed in your weighted_sums: row i of p holds the weights, and j runs along it": (
                    _weighted_sums(p.mT, v) if T == S else None
                ),
                "your weighted_sums is a mean over j: it is the sum, and nothing is divided by S": want / max(S, 1),
            },
        )
    given = {"p": exam.normal(batch, queries, keys), "v": exam.normal(batch, keys, width)}
    exam.gradients(theirs.weighted_sums, _weighted_sums, given, "your weighted_sums")


def _check_per_head(theirs: Any, exam: Exam) -> None:
    batch, length, heads, inner, width = exam.sizes(5)
    for B, T, H, K in ((batch, length, heads, width), (batch, length, heads, inner), (1, 1, 1, inner)):
        z, W = exam.normal(B, T, H, K), exam.normal(H, K, width)
        want = _per_head(z, W)
        exam.same(
            theirs.per_head(z, W),
            want,
            "your per_head(z, W)",
            axes=("b", "t", "h", "d"),
            unless={
                "your per_head adds up the heads: h stands on the left, so it is an axis of the result": want.sum(2),
                "your per_head multiplies each head by the sum of all heads' matrices: head h has W[h] alone": (
                    _per_head(z, W.sum(0, keepdim=True).expand_as(W))
                ),
                "W[h] is read transposed in your per_head: k, which is summed over, is its row": (
                    _per_head(z, W.mT) if width == K else None
                ),
            },
        )
    given = {"z": exam.normal(batch, length, heads, inner), "W": exam.normal(heads, inner, width)}
    exam.gradients(theirs.per_head, _per_head, given, "your per_head")


def _scores(q: Tensor, k: Tensor) -> Tensor:
    """Return all products first, and their sum over d after."""
    return (q[:, :, None, :] * k[:, None, :, :]).sum(3)


def _weighted_sums(p: Tensor, v: Tensor) -> Tensor:
    return (p[:, :, :, None] * v[:, None, :, :]).sum(2)


def _per_head(z: Tensor, W: Tensor) -> Tensor:
    one_by_one = [(z[:, :, head, :, None] * W[head]).sum(2) for head in range(W.shape[0])]
    return torch.stack(one_by_one, dim=2)
