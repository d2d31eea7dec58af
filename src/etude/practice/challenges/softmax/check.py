"""Whether a softmax is one."""

from typing import Any

import torch

from etude.practice.exam import Exam


def check(theirs: Any, exam: Exam) -> None:
    """Ask with rows of several shapes, rows of large scores, and for the gradient."""
    batch, rows, columns = exam.sizes(3)
    for shape in ((columns,), (rows, columns), (batch, rows, columns)):
        x = exam.normal(*shape, scale=2.0)
        got = theirs.softmax(x)
        exam.shaped(got, shape, "your softmax(x)")
        exam.sums_to_one(got, "your softmax(x)")
        lifted = x - x.min(dim=-1, keepdim=True).values + 1
        exam.same(
            got,
            torch.softmax(x, dim=-1),
            "your softmax(x)",
            unless={
                "your rows sum to 1, but without the exponential: shares are proportional to exp(x), not to x": (
                    lifted / lifted.sum(-1, keepdim=True)
                ),
                "your shares are proportional to powers of 2: exp(x) is a power of e": torch.softmax(
                    x * torch.tensor(2.0).log(), dim=-1
                ),
            },
        )
    large = exam.normal(rows, columns) + 1000.0
    exam.ask(
        bool(theirs.softmax(large).isfinite().all()),
        "with scores near 1000 the result is not finite: exp(1000) overflows. Which change of all scores of a row"
        " leaves its shares as they are?",
    )
    apart = exam.normal(2, columns) + torch.tensor([[500.0], [-500.0]])
    exam.ask(
        bool(theirs.softmax(apart).isfinite().all()),
        "with one row near 500 and another near -500 the second is lost: move each row by its own largest score",
    )
    exam.same(theirs.softmax(apart), torch.softmax(apart, dim=-1), "softmax of a row near 500 and one near -500")
    wide = exam.normal(rows, columns)
    wide[:, exam.random.randrange(columns)] += 1000.0
    exam.ask(
        bool(theirs.softmax(wide).isfinite().all()),
        "with one score of a row near 1000 and the others near 0 the result is not finite: what is taken from all"
        " scores has to leave none above 0, and less than the largest of the row does not",
    )
    exam.same(theirs.softmax(wide), torch.softmax(wide, dim=-1), "softmax of rows with one score near 1000")
    exam.gradients(
        theirs.softmax, lambda x: torch.softmax(x, dim=-1), {"x": exam.normal(rows, columns)}, "your softmax"
    )
