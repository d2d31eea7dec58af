"""Whether the law predicts what its formula says, and residuals are weighed by Huber's loss."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from etude.practice.exam import Exam

FINE = 1e-8


def check(theirs: Any, exam: Exam) -> None:
    """Ask for predictions near the data and far from them, and for the objective of residuals small and large."""
    for points in (1, *exam.sizes(2, least=3)):
        _predicts(theirs, *_given(exam, points), exam)
    theta, params, tokens = _given(exam, 4)
    far = theta + torch.tensor([1000.0, 0, 0, 0, 0], dtype=torch.float64)
    got = theirs.log_prediction(far, params, tokens)
    exam.ask(
        bool(got.isfinite().all()),
        "with a near 1000 the prediction is not finite: exp(1000) overflows. The logarithm of a sum of exponentials"
        " needs none of them to be taken as it is",
    )
    exam.same(got, far[0] - theta[3] * params.log(), "your prediction with a near 1000, where its term is all there is")
    for points in exam.sizes(2, least=6):
        _weighs(theirs, exam, points)
    _falls(theirs, exam)


def _given(exam: Exam, points: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return a law like the published one, and models of other sizes than their numbers of tokens."""
    about = torch.tensor([6.0, 6.5, 0.5, 0.34, 0.28], dtype=torch.float64)
    theta = about * (1 + 0.1 * (exam.uniform(5).double() - 0.5))
    params, tokens = exam.uniform(points, low=13.0, high=20.0), exam.uniform(points, low=17.0, high=25.0)
    return theta, params.double().exp(), tokens.double().exp()


def _law(theta: Tensor, params: Tensor, tokens: Tensor) -> Tensor:
    """Return log L by the first formula, in powers."""
    a, b, e, alpha, beta = theta
    return (e.exp() + a.exp() / params**alpha + b.exp() / tokens**beta).log()


def _predicts(theirs: Any, theta: Tensor, params: Tensor, tokens: Tensor, exam: Exam) -> None:
    got = theirs.log_prediction(theta, params, tokens)
    exam.shaped(got, params.shape, "your prediction")
    a, b, e, alpha, beta = theta
    by_size, by_tokens, right = a - alpha * params.log(), b - beta * tokens.log(), _law(theta, params, tokens)
    exam.same(
        got,
        right,
        "your prediction",
        unless={
            "that is L; its logarithm is asked for": right.exp(),
            "a power of N in the denominator is -alpha log N in the exponent: the sign is wrong": (
                torch.logsumexp(
                    torch.stack([a + alpha * params.log(), b + beta * tokens.log(), e.expand(len(params))]), 0
                )
            ),
            "e is added after the logarithm: exp(e) is the third term of the sum inside it": (
                torch.logaddexp(by_size, by_tokens) + e
            ),
            "the irreducible loss E = exp(e) is left out": torch.logaddexp(by_size, by_tokens),
            "e is the logarithm of E, and stands here for E itself": ((e + by_size.exp() + by_tokens.exp()).log()),
            "alpha belongs to the parameters N and beta to the tokens D: they are exchanged": _law(
                theta[[0, 1, 2, 4, 3]], params, tokens
            ),
            "N and D are exchanged: a and alpha belong to the parameters": _law(theta, tokens, params),
        },
        tolerance=FINE,
    )
    exam.gradients(
        lambda theta: theirs.log_prediction(theta, params, tokens),
        lambda theta: _law(theta, params, tokens),
        {"theta": theta},
        "your prediction",
    )


def _weighs(theirs: Any, exam: Exam, points: int) -> None:
    theta, params, tokens = _given(exam, points)
    delta = exam.random.uniform(0.2, 0.4)
    residual = exam.uniform(points, low=0.6, high=1.5).double()
    residual[: points // 2] = exam.uniform(points // 2, low=0.05, high=0.15).double()
    residual[::2] *= -1
    predicted = _law(theta, params, tokens)
    losses = (predicted + residual).exp()
    far = residual.abs()
    zero = torch.zeros_like(residual)
    each = F.huber_loss(residual, zero, delta=delta, reduction="none")
    right, raw = each.sum(), losses - predicted.exp()
    exam.same(
        theirs.objective(theta, params, tokens, losses, delta),
        right.item(),
        f"your objective (delta = {delta:.3g}, half of the residuals within it)",
        unless={
            "that is the mean over the models; the sum is asked for": each.mean(),
            "the residual is that of log L: you weigh the difference of the losses themselves": F.huber_loss(
                raw, zero, delta=delta, reduction="sum"
            ),
            "the residual is log L measured less log L predicted: the measured loss stands without its logarithm": (
                F.huber_loss(losses, predicted, delta=delta, reduction="sum")
            ),
            "every residual is squared: beyond delta the Huber loss grows as |r|, so that an outlier pulls little": (
                (residual**2 / 2).sum()
            ),
            "beyond delta the line is too high: at |r| = delta it meets the parabola, which there is delta^2 / 2": (
                torch.where(far <= delta, far**2 / 2, delta * far).sum()
            ),
            "that is divided by delta, the smooth L1 loss: within delta the Huber loss is r^2 / 2 whatever delta is": (
                right / delta
            ),
            "within delta the Huber loss is r^2 / 2: the half is missing": torch.where(
                far <= delta, far**2, delta * (far - delta / 2)
            ).sum(),
            "beyond delta the Huber loss depends on |r|: for negative residuals the absolute value is missing": (
                torch.where(residual <= delta, residual**2 / 2, delta * (residual - delta / 2)).sum()
            ),
            "the line beyond delta has the slope delta; yours has 1": torch.where(
                far <= delta, far**2 / 2, far - delta / 2
            ).sum(),
        },
        tolerance=FINE,
    )


def _falls(theirs: Any, exam: Exam) -> None:
    """Ask for the default delta, and for the gradient by which a fit goes down."""
    theta, params, tokens = _given(exam, 6)
    losses = (_law(theta, params, tokens) + 0.5).exp()
    exam.same(
        theirs.objective(theta, params, tokens, losses) * 1e3,
        6 * (0.5 - 0.5e-3),
        "1000 times your objective of six residuals of 0.5 with the delta of the paper, 1e-3",
        tolerance=1e-6,
    )

    def ours(theta: Tensor) -> Tensor:
        return F.huber_loss(losses.log(), _law(theta, params, tokens), delta=0.1, reduction="sum")

    exam.gradients(
        lambda theta: theirs.objective(theta, params, tokens, losses, 0.1), ours, {"theta": theta}, "your objective"
    )
