"""Whether one table serves both ends of a model."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from etude.practice.exam import Exam


def check(theirs: Any, exam: Exam) -> None:
    """Ask for rows, for scores, and for what the table learns from each of its two uses."""
    _check_embed(theirs, exam)
    _check_unembed(theirs, exam)


def _check_embed(theirs: Any, exam: Exam) -> None:
    B, T, V, D = exam.sizes(4, least=3)
    for shape in ((B, T), (T,), (B, 1)):
        tokens, W_E = exam.integers(V, *shape), exam.normal(V, D)
        want = F.embedding(tokens, W_E)
        exam.same(
            theirs.embed(tokens, W_E),
            want,
            "your embed(tokens)",
            unless={
                "your rows are one off: tokens are counted from 0, so token 0 has the first row": W_E[tokens - 1],
                "your rows are multiplied by √D: here they are taken as they are": want * math.sqrt(D),
                "each position holds the sum of its own vector and those of the tokens before it: it holds its own": (
                    want.cumsum(-2)
                ),
                "the vectors of a text are added up: each position keeps its own": want.sum(-2),
            },
        )
    tokens, W_E = torch.cat((torch.arange(V), torch.zeros(T, dtype=torch.long))), exam.normal(V, D)
    exam.gradients(lambda W: theirs.embed(tokens, W), lambda W: F.embedding(tokens, W), {"W_E": W_E}, "your embed")


def _check_unembed(theirs: Any, exam: Exam) -> None:
    B, T, V, D = exam.sizes(4, least=3)
    for (*many, width), vocabulary in (((B, T, D), V), ((D,), V), ((B, T, D), D)):
        x, W_E = exam.normal(*many, width), exam.normal(vocabulary, width)
        want = F.linear(x, W_E)
        exam.same(
            theirs.unembed(x, W_E),
            want,
            "your unembed(x)",
            unless={
                "your scores have already gone through softmax: unembed returns them as they were before": want.softmax(
                    -1
                ),
                "your scores have already gone through log-softmax: unembed returns them as they were before": (
                    want.log_softmax(-1)
                ),
                "these are cosines: the lengths of x and of the rows are divided out. A score is the inner product": (
                    F.cosine_similarity(x[..., None, :], W_E, dim=-1)
                ),
                "your scores are divided by √D: here the inner product is all there is": want / math.sqrt(width),
                "W_E is not transposed: score v is the inner product of x with row v": (
                    x @ W_E if vocabulary == width else None
                ),
            },
        )
    x, W_E = exam.normal(B, T, D), exam.normal(V, D, grad=True)
    exam.ask(
        theirs.unembed(x, W_E).requires_grad,
        "the scores are not tied to W_E: no gradient reaches the table from them, so it learns nothing from this use",
    )
    exam.gradients(theirs.unembed, F.linear, {"x": x, "W_E": W_E}, "your unembed")
    tokens = exam.integers(V, B, T)

    def both(embed: Any, unembed: Any, table: Tensor) -> Tensor:
        return unembed(torch.tanh(embed(tokens, table)), table)

    exam.gradients(
        lambda table: both(theirs.embed, theirs.unembed, table),
        lambda table: both(F.embedding, F.linear, table),
        {"W_E": exam.normal(V, D)},
        "what one table makes of tokens and back",
    )
