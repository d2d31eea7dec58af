"""Whether a linear bottleneck keeps the directions of greatest variance, and tells how much it keeps."""

from typing import Any

import torch
from torch import Tensor

from etude.practice.differences import close, shown
from etude.practice.exam import Exam


def check(theirs: Any, exam: Exam) -> None:
    """Ask for the fit of data far from the origin, for codes of new data, and for the variance that is kept."""
    D, k = exam.random.randint(5, 8), exam.random.randint(2, 3)
    for count, kept in ((40, k), (60, D), (D + 3, 1)):
        x, mean, axes = _data(exam, count, D)
        _fit(exam, theirs, x, mean, axes, kept)
    rows, batch = exam.sizes(2)
    for shape in ((rows,), (batch, rows), ()):
        mean, axes = exam.normal(D, scale=3.0), torch.linalg.qr(exam.normal(D, D)).Q[:, :k]
        _squeeze(exam, theirs, exam.normal(*shape, D) + mean + 1.0, mean, axes)
    exam.gradients(
        lambda x: theirs.squeeze(x, mean, axes)[1],
        lambda x: mean + (x - mean) @ (axes @ axes.T),
        {"x": exam.normal(rows, D)},
        "your reconstruction",
    )
    for noise in (0.2, 0.7, 1.5):
        x, mean, _ = _data(exam, 30, D)
        y = x + noise * (x - mean).std(0) * (exam.normal(30, D) + 0.5)
        _variance(exam, theirs, x, y)
        exam.same(theirs.explained_variance(x, x), 1.0, "the explained variance of a perfect reconstruction")
    everywhere = mean.expand(30, D).contiguous()
    exam.same(theirs.explained_variance(x, everywhere), 0.0, "the explained variance of the mean itself")


def _data(exam: Exam, count: int, D: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return data whose mean and directions of variance, the greatest first, are known, the variances well apart."""
    free = exam.normal(count, D)
    spread = torch.linalg.qr(free - free.mean(0)).Q * count**0.5  # columns of mean 0, perpendicular
    sizes = 3.0 * torch.cumprod(exam.uniform(D, low=0.6, high=0.75), 0)
    axes = torch.linalg.qr(exam.normal(D, D)).Q
    mean = 1.5 * axes[:, -1] + axes[:, 0] + 2.0 * axes[:, 1]
    return spread * sizes @ axes.T + mean, mean, axes


def _fit(exam: Exam, theirs: Any, x: Tensor, mean: Tensor, axes: Tensor, k: int) -> None:
    D = x.shape[1]
    found, directions = theirs.fit(x, k)
    exam.shaped(found, (D,), "your mean", axes=("D",))
    exam.same(found, mean, "your mean", tolerance=1e-3)
    turned = isinstance(directions, Tensor) and directions.shape == (k, D) and k != D
    exam.ask(not turned, f"your directions stand in rows, [{k}, {D}]: they are asked for in columns, [{D}, {k}]")
    exam.shaped(directions, (D, k), "your table of directions", axes=("D", "k"))
    gram = directions.T @ directions
    exam.ask(
        close(gram, torch.eye(k), 1e-3),
        f"your directions are not orthonormal: their inner products with themselves are {shown(gram.diagonal())}, and"
        f" the greatest of two different ones is {shown((gram - torch.diag(gram.diagonal())).abs().max())}",
    )
    match = (directions * axes[:, :k]).sum(0).abs()
    if bool((match > 0.995).all()):
        return
    scaled = (x - mean) / (x - mean).std(0)
    unless = {
        "the directions are those of least variance: the greatest come first": axes.flip(1),
        "the directions are those of x itself, not of x - mean: the first points to the mean, which tells activations"
        " apart by nothing": torch.linalg.svd(x, full_matrices=False).Vh.T,
        "each dimension is divided by its deviation: the variances of the activations as they are count": (
            torch.linalg.svd(scaled, full_matrices=False).Vh.T
        ),
        "the directions are the first dimensions, whatever varies most": torch.eye(D),
    }
    for why, mistaken in unless.items():
        exam.ask(not bool(((directions * mistaken[:, :k]).sum(0).abs() > 0.995).all()), why)
    kept, best = (((x - mean) @ each).square().mean(0).sum() for each in (directions, axes[:, :k]))
    worst = int(match.argmin())
    exam.ask(
        False,
        f"direction {worst} is not the one of variance number {worst}, counted from the greatest (|cosine| is"
        f" {shown(match[worst])}): your {k} keep a variance of {shown(kept)}, and {shown(best)} can be kept",
    )


def _squeeze(exam: Exam, theirs: Any, x: Tensor, mean: Tensor, axes: Tensor) -> None:
    code, back = theirs.squeeze(x, mean, axes)
    exam.shaped(code, (*x.shape[:-1], axes.shape[1]), "your code")
    exam.shaped(back, x.shape, "your reconstruction")
    unless = {"the mean is not taken away before the code is made": x @ axes}
    if x.ndim > 1:
        own = x.mean(tuple(range(x.ndim - 1)))
        unless["the mean of these activations is taken away, not the one that was fitted and is given"] = (
            x - own
        ) @ axes
    right = (x - mean) @ axes
    exam.same(code, right, "your code", unless=unless, tolerance=1e-3)
    lost = right @ axes.T
    exam.same(
        back,
        mean + lost,
        "your reconstruction",
        unless={
            "the mean is not put back: without it the reconstruction lies about the origin": lost,
            "the mean is projected too: all of it is put back, also what lies outside the k directions": (
                lost + mean @ axes @ axes.T
            ),
            "the mean is taken away again: it is put back": lost - mean,
        },
        tolerance=1e-3,
    )


def _variance(exam: Exam, theirs: Any, x: Tensor, y: Tensor) -> None:
    error, away = (x - y).square(), (x - x.mean(0)).square()
    exam.same(
        theirs.explained_variance(x, y),
        1 - error.double().sum() / away.double().sum(),
        "your explained variance",
        unless={
            "the variance is taken about zero: a large mean, which tells activations apart by nothing, makes it look"
            " good": 1 - error.sum() / x.square().sum(),
            "this is the share that is lost: the share that is kept is 1 less that": error.sum() / away.sum(),
            "each dimension counts alike: squares are summed over all dimensions before one is divided by the other": (
                1 - (error.sum(0) / away.sum(0)).mean()
            ),
            "each row counts alike: squares are summed over all rows before one is divided by the other": (
                1 - (error.sum(1) / away.sum(1)).mean()
            ),
            "norms are compared, not their squares: variance is a sum of squares": (
                1 - error.sum().sqrt() / away.sum().sqrt()
            ),
            "the variance of the reconstruction is compared with that of x: errors across it go unseen": (
                (y - y.mean(0)).square().sum() / away.sum()
            ),
            "one mean of all entries is taken away: each dimension has a mean of its own": (
                1 - error.sum() / (x - x.mean()).square().sum()
            ),
        },
        tolerance=1e-3,
    )
