"""Whether no other division of a budget has a lower loss."""

import math
from typing import Any

import numpy as np

from etude.practice.exam import Exam


def check(theirs: Any, exam: Exam) -> None:
    """Ask about several laws and budgets, each searched through, and about the exponent of the loss."""
    for _ in range(4):
        alpha, beta = exam.random.uniform(0.25, 0.33), exam.random.uniform(0.4, 0.5)
        if exam.random.random() < 0.5:
            alpha, beta = beta, alpha
        A, B = exam.random.uniform(100, 200), exam.random.uniform(400, 800)
        flops = 10 ** exam.random.uniform(17, 23)
        _allocates(theirs, (A, B, alpha, beta, flops), exam)
        _exponent(theirs, alpha, beta, exam)


def _allocates(theirs: Any, given: tuple[float, float, float, float, float], exam: Exam) -> None:
    A, B, alpha, beta, C = given
    law = f"(A = {A:.4g}, B = {B:.4g}, alpha = {alpha:.3g}, beta = {beta:.3g}, C = {C:.3g})"
    got = theirs.optimal_allocation(*given)
    exam.ask(isinstance(got, tuple | list) and len(got) == 2, "your answer should be two numbers: N, and D")
    for name, value in zip("ND", got, strict=True):
        exam.same(value, 0.0, f"your {name}", tolerance=math.inf)
    N, D = map(float, got)
    exam.ask(N > 0 and D > 0, f"your N is {N:.4g} and your D {D:.4g} {law}: both are above 0")
    spent = 6 * N * D / C
    exam.ask(
        abs(spent - 6) > 1e-3,
        f"your N and D spend six times the budget {law}: a training costs 6 N D, not N D",
    )
    exam.ask(abs(spent - 1) < 1e-3, f"your N and D cost 6 N D = {6 * N * D:.4g}, and the budget is {C:.4g} {law}")
    best = _searched(*given)
    both = alpha + beta
    G = (alpha * A / (beta * B)) ** (1 / both)
    other = (C / 6) ** (alpha / both)
    exam.same(
        N,
        best,
        f"your N {law}, beside that of a search over all N,",
        unless={
            "the exponents are exchanged: N grows as C^(beta / (alpha + beta)), and D as C^(alpha / (alpha + beta))": (
                G * other
            ),
            "that is the best D: N comes first": C / (6 * best),
            "G has A / B without alpha and beta: the derivative of A / N^alpha brings its exponent down": (
                (A / B) ** (1 / both) * best / G
            ),
            "G is the wrong way round: the larger A is, the more parameters pay": best / G**2,
            "G stands without its exponent 1 / (alpha + beta)": G**both * best / G,
            "G is left out: that would be the best N only for alpha A = beta B": best / G,
            "the budget is divided evenly: N = D = sqrt(C / 6) is best only for a law that is alike in both": (
                math.sqrt(C / 6)
            ),
            "alpha and beta are exchanged in G: the derivative of A / N^alpha has the factor alpha": (
                (beta * A / (alpha * B)) ** (1 / both) * best / G
            ),
        },
        tolerance=1e-3,
    )


def _searched(A: float, B: float, alpha: float, beta: float, C: float) -> float:
    """Return the best N by looking at a hundred of them, time and again nearer to the least loss."""
    low, high = 0.0, math.log(C / 6)
    for _ in range(12):
        x = np.linspace(low, high, 101)
        least = int((A * np.exp(-alpha * x) + B * np.exp(-beta * (math.log(C / 6) - x))).argmin())
        low, high = float(x[max(least - 2, 0)]), float(x[min(least + 2, 100)])
        if high - low < 1e-4:
            break
    return math.exp((low + high) / 2)


def _exponent(theirs: Any, alpha: float, beta: float, exam: Exam) -> None:
    """Compare with what the loss does between two budgets."""
    losses = []
    for C in (1e18, 1e24):
        N = _searched(150.0, 500.0, alpha, beta, C)
        losses.append(150.0 / N**alpha + 500.0 / (C / (6 * N)) ** beta)
    measured = math.log(losses[0] / losses[1]) / math.log(1e6)
    exam.same(
        theirs.loss_exponent(alpha, beta),
        measured,
        f"your exponent of the loss (alpha = {alpha:.3g}, beta = {beta:.3g})",
        unless={
            "the exponent has the wrong sign: L - E falls as C^-g with g above 0": -measured,
            "that is the exponent of N in C; A / N^alpha then falls alpha times as fast": beta / (alpha + beta),
            "that is the exponent of D in C; B / D^beta then falls beta times as fast": alpha / (alpha + beta),
            "that would be so if all of the budget went into the parameters": alpha,
            "that would be so if all of the budget went into the tokens": beta,
            "that would be so if the budget were divided evenly": min(alpha, beta) / 2,
        },
        tolerance=1e-4,
    )
