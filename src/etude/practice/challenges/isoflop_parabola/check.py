"""Whether the vertex is that of the parabola of least squares over the logarithm of the size."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from etude.practice.differences import close, is_number, shown
from etude.practice.exam import Exam

FINE = 1e-6


def check(theirs: Any, exam: Exam) -> None:
    """Ask with points that lie on a parabola, with scattered ones, with three, and with a parabola upside down."""
    params, losses, best, least = _sweep(exam, 7, noise=0.0)
    _ask(theirs, params, losses, exam, f"for points on a parabola with its vertex at {best:.4g}")
    for points in (exam.sizes(1, least=6, most=9)[0], 8, 3):
        params, losses, _, _ = _sweep(exam, points, noise=0.02 if points > 3 else 0.0)
        _ask(theirs, params, losses, exam, f"for {points} points")
    params, losses, _, least = _sweep(exam, 7, noise=0.005)
    got = _pair(theirs.isoflop_minimum(params, 2 * least - losses), exam)
    exam.ask(
        all(map(math.isnan, got)),
        f"the parabola opens downwards (c2 < 0), and your answer is ({got[0]:.4g}, {got[1]:.4g}): its vertex is the"
        " greatest loss, and there is no least; give nan twice",
    )


def _sweep(exam: Exam, points: int, noise: float) -> tuple[Tensor, Tensor, float, float]:
    """Return sizes in any order and their losses, about a parabola with its vertex inside; and the vertex."""
    low, high = math.log(exam.random.uniform(2, 6)), math.log(exam.random.uniform(120, 300))
    spaced = torch.linspace(low, high, points, dtype=torch.float64)
    x = spaced[exam.permutation(points)]
    at = exam.random.uniform(low + 0.4 * (high - low), high - 0.4 * (high - low)) + 0.2
    least = exam.random.uniform(2.0, 3.0)
    losses = least + exam.random.uniform(0.1, 0.2) * (x - at) ** 2 + noise * exam.normal(points).double()
    return x.exp(), losses, math.exp(at), least


def _pair(got: Any, exam: Exam) -> tuple[float, float]:
    exam.ask(
        isinstance(got, tuple | list) and len(got) == 2, "your answer should be two numbers: the size, and the loss"
    )
    for value in got:
        single = isinstance(value, Tensor) and value.ndim == 0
        exam.ask(single or is_number(value), f"your answer has {shown(value)} in it; it should be two numbers")
    return float(got[0]), float(got[1])


def _ask(theirs: Any, params: Tensor, losses: Tensor, exam: Exam, where: str) -> None:
    """Compare the vertex with that of NumPy's polynomial."""
    size, loss = _pair(theirs.isoflop_minimum(params, losses), exam)
    N, L = params.numpy(), losses.numpy()
    x = np.log(N)
    c2, c1, c0 = np.polyfit(x, L, 2)
    vertex = -c1 / (2 * c2)
    best, least = math.exp(vertex), c0 + c1 * vertex + c2 * vertex**2
    of_sizes, of_losses = np.polyfit(N, L, 2), np.polyfit(x, np.log(L), 2)
    middle = -of_sizes[1] / (2 * of_sizes[0])
    over_sizes = (_exp(middle), float(middle)) if of_sizes[0] > 0 else (math.nan,)
    exam.ask(
        not any(close(size, each, FINE) for each in over_sizes),
        f"{where} your parabola is one over N; here it is one over log N",
    )
    exam.ask(
        not (math.isnan(size) or math.isnan(loss)),
        f"{where} your answer is nan: a parabola with c2 > 0 opens upwards, and its vertex is the least loss",
    )
    exam.same(
        size,
        best,
        f"the size that you return {where}",
        unless={
            "that is the logarithm of the best size: take its exponential": vertex,
            "the vertex of c0 + c1 x + c2 x^2, where the derivative c1 + 2 c2 x is 0, lies at half of what you have": (
                _exp(2 * vertex)
            ),
            "the vertex has the wrong sign: the derivative c1 + 2 c2 x is 0 at x = -c1 / (2 c2)": _exp(-vertex),
            "that is the best of the models that were trained; the parabola's vertex may lie between them": (
                float(N[L.argmin()])
            ),
            "that parabola is fitted to log L; here it is fitted to the loss itself": (
                _exp(-of_losses[1] / (2 * of_losses[0]))
            ),
            "x is the natural logarithm, and its inverse is exp, not a power of 10": 10**vertex,
            "x is the natural logarithm, and its inverse is exp, not a power of 2": 2**vertex,
        },
        tolerance=FINE,
    )
    exam.same(
        loss,
        least,
        f"the loss that you return {where}",
        unless={
            "that is the least loss that was measured; the parabola at its vertex passes between the points": (
                float(L.min())
            ),
            "that is c0, the parabola at log N = 0: take its value at the vertex": float(c0),
            "the parabola at its vertex is c0 - c1^2 / (4 c2)": float(c0 + c1 * vertex),
            "that is the parabola at x = N: it is one over x = log N": float(c0 + c1 * best + c2 * best**2),
        },
        tolerance=FINE,
    )


def _exp(x: float) -> float:
    return math.exp(min(float(x), 700.0))
