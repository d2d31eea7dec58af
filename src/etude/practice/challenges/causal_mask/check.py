"""Whether a mask hides the future and nothing else."""

from typing import Any

import torch

from etude.practice.exam import Exam


def check(theirs: Any, exam: Exam) -> None:
    """Ask with squares of several sizes, with more axes before them, and with one position alone."""
    batch, heads, length = exam.sizes(3, least=3)
    for shape in ((length, length), (batch, heads, length, length), (1, 1)):
        scores = exam.normal(*shape)
        got = theirs.causal_mask(scores)
        exam.shaped(got, shape, "your masked scores")
        one = got.reshape(-1, shape[-1], shape[-1])[0]
        square = torch.ones_like(one, dtype=torch.bool)
        past, future, hidden = square.tril(-1), square.triu(1), one.isneginf()
        exam.ask(
            not past.any() or not bool(hidden[past].all()),
            "the mask is the wrong way round: it hides the past (j < i) and shows the future (j > i)",
        )
        exam.ask(not bool(hidden.diag().any()), "position 0 is hidden from itself: it may see itself, j <= i")
        exam.ask(
            not future.any() or bool(hidden[future].all()) or not bool(hidden[square.triu(2)].all()) or shape[-1] < 3,
            "position 0 sees position 1: the mask begins one position too far",
        )
        shares = torch.softmax(one, dim=-1)[future]
        exam.ask(
            not bool((shares > 1e-3).any()),
            "the future still has a share after the softmax: a score of 0 is not none, exp(0) is 1",
        )
        exam.ask(
            not bool((~hidden & future).any()),
            "the future is hidden by a large negative number, which leaves it a small share: use -infinity",
        )
        seen = ~future.expand(shape)
        exam.same(got[seen], scores[seen], "what your mask gives for the scores that may be seen")
