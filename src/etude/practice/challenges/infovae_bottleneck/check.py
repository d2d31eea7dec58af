"""Whether codes are held to a prior by the discrepancy of the two samples, and reconstruction by its error."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from etude.practice.exam import Exam

Kernel = Callable[[Tensor, Tensor], Tensor]


def check(theirs: Any, exam: Exam) -> None:
    """Ask of samples of several sizes, of two that coincide in points, and for the loss and its gradients."""
    N, M, K, D = exam.sizes(4, least=3)
    variance, weight = exam.random.uniform(1.5, 3.0), exam.random.uniform(2.0, 5.0)
    given: list[Tensor] = []
    wanted: list[Tensor] = []
    unless: dict[str, list[Tensor]] = {}
    for codes, draws, size in ((N, M, K), (2, 2, 1), (M, N, D)):
        z, prior = exam.normal(codes, size) + 0.7, exam.normal(draws, size)
        given.append(theirs.mmd(z, prior, variance))
        wanted.append(_mmd(z, prior, variance))
        for why, mistaken in _mistakes(z, prior, variance).items():
            unless.setdefault(why, []).append(mistaken)
    exam.same(given, wanted, "the mmd of three pairs of samples", unless=unless)
    apart = exam.random.uniform(1.0, 2.0)
    one, other = torch.zeros(N, K), torch.full((M, K), apart)
    exam.same(
        theirs.mmd(one, other, variance),
        2 - 2 * math.exp(-K * apart**2 / (2 * variance)),
        "your mmd of codes that are all 0 and a prior that is all in one other point",
    )
    exam.gradients(
        lambda z, prior: theirs.mmd(z, prior, variance),
        lambda z, prior: _mmd(z, prior, variance),
        {"z": exam.normal(N, K), "the prior": exam.normal(M, K)},
        "your mmd",
    )
    for rows, size in ((N, D), (2, 3)):
        x, back = exam.normal(rows, size, scale=0.5), exam.normal(rows, size, scale=0.5)
        z, prior = exam.normal(rows, K, scale=0.5) + 2.5, exam.normal(M, K)
        got = theirs.infovae_loss(x, back, z, prior, weight, variance)
        error, discrepancy = (x - back).square().sum(-1).mean(), _mmd(z, prior, variance)
        exam.same(
            got,
            error + weight * discrepancy,
            "your loss",
            unless={
                "the discrepancy is not in the loss: the codes are free to lie anywhere": error,
                "the discrepancy has no weight": error + discrepancy,
                "the discrepancy is taken away: a loss is made small, so what is to be small is added": (
                    error - weight * discrepancy
                ),
                "the weight stands at the reconstruction too": weight * (error + discrepancy),
                "the weight stands at the reconstruction, not at the discrepancy": weight * error + discrepancy,
                "the squared error is a mean over dimensions too: of one row it is a sum": (
                    error / size + weight * discrepancy
                ),
                "the squared error is a sum over rows: it is the mean of them, so that the weight means the same in a"
                " larger batch": error * rows + weight * discrepancy,
                "the error is a length, not its square": ((x - back).norm(dim=-1).mean() + weight * discrepancy),
                "the root of the discrepancy is taken: the squared one is asked for": (
                    error + weight * discrepancy.clamp_min(0).sqrt()
                ),
            },
        )
    exam.gradients(
        lambda back, z: theirs.infovae_loss(x, back, z, prior, weight, variance),
        lambda back, z: (x - back).square().sum() / len(x) + weight * _mmd(z, prior, variance),
        {"the reconstruction": back, "z": z},
        "your loss",
    )


def _kernel(variance: float) -> Kernel:
    return lambda a, b: (-(a - b).square().sum() / (2 * variance)).exp()


def _sum(one: Tensor, other: Tensor, kernel: Kernel, same: bool) -> Tensor:
    """Return the sum of the kernel over pairs, pair by pair; `same` keeps points of the same number."""
    pairs = [(i, j) for i in range(len(one)) for j in range(len(other)) if same or i != j]
    return torch.stack([kernel(one[i], other[j]) for i, j in pairs]).sum()


def _mmd(z: Tensor, prior: Tensor, variance: float, kernel: Kernel | None = None) -> Tensor:
    """Return the estimate from its definition; another kernel makes a mistake of it."""
    kernel = kernel or _kernel(variance)
    N, M = len(z), len(prior)
    within = [_sum(a, a, kernel, False) / (len(a) * (len(a) - 1)) for a in (z, prior)]
    return within[0] + within[1] - 2 * _sum(z, prior, kernel, True) / (N * M)


def _mistakes(z: Tensor, prior: Tensor, variance: float) -> dict[str, Tensor]:
    """Return what known mistakes give for the discrepancy, by what is said of them."""
    kernel, N, M = _kernel(variance), len(z), len(prior)
    own = [_sum(a, a, kernel, False) for a in (z, prior)]
    unbiased = own[0] / (N * (N - 1)) + own[1] / (M * (M - 1))
    across = _sum(z, prior, kernel, True) / (N * M)
    biased = (own[0] + N) / N**2 + (own[1] + M) / M**2
    return {
        "each point is paired with itself too, with kernel 1: that is the biased estimate, which is above 0 even where"
        " both samples have one source": biased - 2 * across,
        "each point is paired with itself, and divided by the number of other pairs alone": (
            (own[0] + N) / (N * (N - 1)) + (own[1] + M) / (M * (M - 1)) - 2 * across
        ),
        "points with themselves are left out of the sum, but counted where it is divided": (
            own[0] / N**2 + own[1] / M**2 - 2 * across
        ),
        "the term between the samples counts once: it comes twice, as in (a - b)^2 = a^2 + b^2 - 2 a b": (
            unbiased - across
        ),
        "the term between the samples is added: where they lie near one another the discrepancy is to be small": (
            unbiased + 2 * across
        ),
        "the sign is turned: what is alike within the samples adds, what is alike between them takes away": (
            2 * across - unbiased
        ),
        "the kernel has |a - b|^2 / variance: the 2 is missing": _mmd(z, prior, variance / 2),
        "the kernel has |a - b|^2 / (2 variance^2): what is given is the variance, not the deviation": _mmd(
            z, prior, variance**2
        ),
        "the kernel has the distance |a - b|, not its square": _mmd(
            z, prior, variance, lambda a, b: (-(a - b).norm() / (2 * variance)).exp()
        ),
        "the kernel has a mean over the K entries: |a - b|^2 is their sum": _mmd(
            z, prior, variance, lambda a, b: (-(a - b).square().mean() / (2 * variance)).exp()
        ),
        "the term within the prior is missing": own[0] / (N * (N - 1)) - 2 * across,
        "this is the discrepancy of the two means alone: the kernel is missing": (z.mean(0) - prior.mean(0))
        .square()
        .sum(),
        "the root is taken: the squared discrepancy is asked for": (unbiased - 2 * across).clamp_min(0).sqrt(),
    }
