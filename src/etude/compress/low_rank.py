"""Maps of low rank that are nearest to another on the data that it reads, in closed form, gathered in float64."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from etude.compress.linear import with_one_sign

SEEN = 1e-12
"""Share of the greatest variance under which a direction counts as never seen: what is recorded in fp32 varies by
about 1e-14 of the whole from rounding alone."""


def second_moment(data: Float[Tensor, "N M"]) -> Float64[Tensor, "M M"]:
    """Return the mean of the outer products of vectors with themselves, about zero, gathered in pieces."""
    moment = torch.zeros(data.shape[1], data.shape[1], dtype=torch.float64)
    for piece in data.split(8192):
        wide = piece.double()
        moment += wide.T @ wide
    return moment / len(data)


def principal_outputs(
    weight: Float[Tensor, "M D"], moment: Float64[Tensor, "M M"]
) -> tuple[Float64[Tensor, "D R"], Float64[Tensor, " R"]]:
    """Return the directions, in columns, in which the outputs x @ W are greatest, and their mean squares, from the
    greatest down. There are as many as the smaller side of W.

    With Q the first r directions, W Q Qᵀ is the matrix of rank r that is least wrong on what is read,
    argmin E|x W - x W'|²: with C the second moment, the error is the squared norm of C^(1/2) (W - W'), and the columns
    of Q are the right singular vectors of C^(1/2) W. No inverse of C is taken, so C may be singular. What it never saw
    weighs next to nothing, and not nothing, so that among matrices which do as well the nearest to W is taken.
    """
    squares, directions = torch.linalg.eigh(moment)
    unseen = SEEN * float(squares[-1])
    root = squares.clamp_min(unseen if unseen > 0 else 1.0).sqrt()[:, None] * directions.T
    _, sizes, right = torch.linalg.svd(root @ weight.double(), full_matrices=False)
    return with_one_sign(right.T), sizes**2


def reduced_rank_regression(
    inputs: Float[Tensor, "N M"], outputs: Float[Tensor, "N D"], rank: int, ridge: float = 0.0
) -> tuple[Float64[Tensor, " M"], Float64[Tensor, " D"], Float64[Tensor, "M R"], Float64[Tensor, "R D"]]:
    """Return the two means and the two factors of the affine map of rank R from inputs to outputs with the least
    squared error (Izenman 1975, with the identity as the weight of the outputs).

    It is least squares, of which the R principal components of the fitted values are kept. With a ridge it is least
    squares with that penalty, and fitted values that count the penalty too (Mukherjee and Zhu 2011).

    Args:
        inputs: [N M].
        outputs: [N D] at the same tokens.
        rank: R.
        ridge: the penalty of a squared coefficient, as a share of the mean variance of the inputs.
    """
    x0, y0 = (data.mean(0, dtype=torch.float64) for data in (inputs, outputs))
    variance = torch.zeros(inputs.shape[1], inputs.shape[1], dtype=torch.float64)
    together = torch.zeros(inputs.shape[1], outputs.shape[1], dtype=torch.float64)
    for x, y in zip(inputs.split(8192), outputs.split(8192), strict=True):
        away = x.double() - x0
        variance += away.T @ away / len(inputs)
        together += away.T @ (y.double() - y0) / len(inputs)
    penalty = ridge * variance.diagonal().mean() * torch.eye(len(variance), dtype=torch.float64)
    whole = torch.linalg.pinv(variance + penalty, rtol=SEEN, hermitian=True) @ together
    fitted = together.T @ whole
    _, directions = torch.linalg.eigh((fitted + fitted.T) / 2)
    up = with_one_sign(directions).flip(1)[:, :rank]
    return x0, y0, whole @ up, up.T
