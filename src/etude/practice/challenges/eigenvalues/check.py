"""Whether power iteration takes its steps, and ends at the greatest eigenvalue with its sign."""

from typing import Any

import torch
from torch import Tensor

from etude.practice.differences import close, shown
from etude.practice.exam import Exam


def check(theirs: Any, exam: Exam) -> None:
    """Ask after a few steps and after many, with a greatest eigenvalue of either sign, large and small."""
    (N,) = exam.sizes(1, least=4)
    A, _, _ = _matrix(exam, N, 1.5)
    x = exam.normal(N, scale=3.0)
    for steps in (0, 1, 2, 4):
        value, vector = theirs.power_iteration(A, x, steps)
        exam.shaped(vector, (N,), "your vector")
        _one_long(exam, vector)
        reached = [_after(A, x, n) for n in range(steps + 2)]
        within = f"your vector after {steps} step" + "s" * (steps != 1)
        others = {
            f"your vector after {steps} steps is that after {n}: {'too many' if n > steps else 'too few'} steps are"
            " taken, counted from v_0 = x / |x|": reached[n]
            for n in (steps - 1, steps + 1)
            if n >= 0
        }
        exam.same(vector, reached[steps], within, unless=others)
        v, before = reached[steps], reached[max(0, steps - 1)]
        exam.same(
            value,
            v @ A @ v,
            f"your value after {steps} steps",
            unless={
                "the value belongs to the vector before the last step: take the Rayleigh quotient of the vector that is"
                " returned": before @ A @ before,
                "the value is |A v|, a length, which loses the eigenvalue's sign: take v . A v": ((A @ v).norm()),
            },
        )
    for greatest in (3.0, -2.0, 1000.0, -1000.0, 0.001):
        A, value, vector = _matrix(exam, N, greatest)
        got, found = theirs.power_iteration(A, exam.normal(N) + vector, 200)
        exam.ask(
            bool(torch.as_tensor(found).isfinite().all()) and bool(torch.as_tensor(got).isfinite().all()),
            f"with a greatest eigenvalue of {shown(greatest)} and 200 steps the result is not finite: lengths multiply"
            " by the eigenvalue at every step, so the vector has to be brought back to length 1 at every step",
        )
        _one_long(exam, found)
        exam.ask(
            close(found, vector, 1e-2) or close(found, -vector, 1e-2),
            f"after 200 steps your vector is not the eigenvector of {shown(greatest)}: |v . u| is"
            f" {shown(found.dot(vector).abs())} with the unit eigenvector u, and should be 1",
        )
        exam.same(
            got / abs(greatest),
            value / abs(greatest),
            f"your value over {shown(abs(greatest))}, for a greatest eigenvalue of {shown(greatest)},",
            unless={
                "the value is an absolute value, which loses the eigenvalue's sign: take v . A v": (
                    value.abs() / abs(greatest)
                )
            },
            tolerance=1e-3,
        )


def _matrix(exam: Exam, N: int, greatest: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return a symmetric matrix, its eigenvalue of greatest absolute value, and the vector of that."""
    axes = torch.linalg.qr(exam.normal(N, N)).Q
    others = exam.uniform(N - 1, low=-0.7, high=0.7)
    others[0] = -0.6  # of the other sign: it is not the greatest, and takes part in few steps
    values = torch.cat((torch.ones(1), others)) * greatest
    A = axes @ torch.diag(values) @ axes.T
    return (A + A.T) / 2, values[0], axes[:, 0]


def _after(A: Tensor, x: Tensor, steps: int) -> Tensor:
    """Return the vector after some steps, as A to that power makes it, in float64."""
    reached = torch.linalg.matrix_power(A.double(), steps) @ x.double()
    return (reached / reached.norm()).float()


def _one_long(exam: Exam, vector: Tensor) -> None:
    length, total = vector.norm(), vector.abs().sum()
    exam.ask(
        close(length, 1.0, 1e-3) or not close(total, 1.0, 1e-5),
        "the absolute values of your vector sum to 1: its length is the root of the sum of their squares",
    )
    exam.ask(
        close(length, 1.0, 1e-3) or not bool(length.isfinite()),
        f"your vector has length {shown(length)}; an eigenvector is returned with length 1",
    )
