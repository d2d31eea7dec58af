"""Whether a log-sum-exp is right, and finite where the sum of exponentials is not."""

from typing import Any

import torch
from scipy.special import logsumexp
from torch import Tensor

from etude.practice.exam import Exam


def check(theirs: Any, exam: Exam) -> None:
    """Ask with rows of several shapes, very large and very small scores, masked ones, and for the gradient."""
    batch, rows, columns = exam.sizes(3)
    for shape in ((rows, columns), (columns,), (batch, rows, columns), (rows, 1)):
        x = exam.normal(*shape, scale=2.0)
        want = _reference(x)
        exam.same(
            theirs.log_sum_exp(x),
            want,
            "your log_sum_exp(x)",
            unless={
                "your sum runs over the wrong axis: a row is the last axis of x, and it is the one that goes": (
                    torch.logsumexp(x, 0)
                ),
                "the last axis is still there, with length 1: one number for each row, of shape [...]": want[..., None],
                "this is the sum of exponentials, without the logarithm": x.exp().sum(-1),
                "your result is log N too small: the exponentials are averaged, not summed": (
                    want - torch.tensor(float(shape[-1])).log()
                ),
                "the number taken away from the scores is not added back: log(exp(-m) s) is log(s) - m": (
                    want - x.amax(-1)
                ),
            },
        )
    for level, why in ((1000.0, "exp(1000) overflows"), (-1000.0, "exp(-1000) is 0 and its logarithm -infinity")):
        x = exam.normal(rows, columns) + level
        got = theirs.log_sum_exp(x)
        exam.ask(
            bool(got.isfinite().all()),
            f"with scores near {level:.0f} the result is not finite: {why}. Which number can be taken out of every"
            " exponential of a row?",
        )
        exam.same(got, _reference(x), f"your log_sum_exp of scores near {level:.0f}")
    apart = exam.normal(2, columns) + torch.tensor([[500.0], [-500.0]])
    exam.ask(
        bool(theirs.log_sum_exp(apart).isfinite().all()),
        "with one row near 500 and another near -500 the second is lost: move each row by its own largest score",
    )
    exam.same(theirs.log_sum_exp(apart), _reference(apart), "your log_sum_exp of a row near 500 and one near -500")
    wide = exam.normal(rows, columns)
    wide[:, exam.random.randrange(columns)] += 1000.0
    got = theirs.log_sum_exp(wide)
    exam.ask(
        bool(got.isfinite().all()),
        "with one score of a row near 1000 and the others near 0 the result is not finite: what is taken from all"
        " scores has to leave none above 0, and less than the largest of the row does not",
    )
    exam.same(got, _reference(wide), "your log_sum_exp of rows with one score near 1000")
    masked = exam.normal(rows, columns)
    masked[:, 1:] = masked[:, 1:].masked_fill(exam.uniform(rows, columns - 1) < 0.5, float("-inf"))
    exam.same(theirs.log_sum_exp(masked), _reference(masked), "your log_sum_exp of rows with scores of -infinity")
    masked[0] = float("-inf")
    got = theirs.log_sum_exp(masked)
    exam.ask(
        not bool(got[0].isnan()),
        "the result is not a number where every score is -infinity: -infinity less -infinity has no value. The sum"
        " is 0 there, and its logarithm -infinity",
    )
    exam.same(got, _reference(masked), "your log_sum_exp where the first row is all -infinity")
    x = exam.normal(rows, columns, scale=2.0)
    exam.gradients(theirs.log_sum_exp, lambda x: torch.logsumexp(x, -1), {"x": x}, "your log_sum_exp")


def _reference(x: Tensor) -> Tensor:
    """Return SciPy's, in double precision."""
    return torch.as_tensor(logsumexp(x.double().numpy(), axis=-1)).float()
