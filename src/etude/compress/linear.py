"""Linear algebra that several methods share."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from etude.compress.codec import Linear
from etude.core.errors import UsageError


def principal_directions(
    data: Float[Tensor, "N D"],
) -> tuple[Float64[Tensor, " D"], Float64[Tensor, "D D"], Float64[Tensor, " D"]]:
    """Return the mean, the directions of greatest variance in columns, and the variances, from the greatest down.

    The covariance is gathered in float64 in pieces, so that the data are not copied whole. A direction and its opposite
    are as good; the one whose largest coordinate is positive is returned, so that every machine gives the same.
    """
    centre = data.mean(0, dtype=torch.float64)
    covariance = torch.zeros(data.shape[1], data.shape[1], dtype=torch.float64)
    for piece in data.split(8192):
        away = piece.double() - centre
        covariance += away.T @ away
    variances, directions = torch.linalg.eigh(covariance / len(data))
    return centre, with_one_sign(directions).flip(1), variances.flip(0).clamp_min(0)


def with_one_sign(directions: Float[Tensor, "D R"]) -> Float[Tensor, "D R"]:
    """Return directions, in columns, each or its opposite: the one whose largest coordinate is positive."""
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    return directions * largest.sign()


def as_matrix(site: str, weight: Tensor) -> Float[Tensor, "M N"]:
    """Return a weight as the matrix of its map, inputs by outputs, with the axes of heads and head width as one.

    Raises:
        UsageError: it is no matrix, such as a bias.
    """
    name = site.rpartition(".")[2]
    if weight.ndim == 3:
        return weight.flatten(0, 1) if name == "W_O" else weight.flatten(1, 2)
    if weight.ndim != 2 or not name.startswith("W_"):
        raise UsageError(f"{site} has shape {tuple(weight.shape)} and is no matrix; choose a W_* site")
    return weight


def constant(value: Float[Tensor, " D"]) -> Linear:
    """Return the codec that gives one value whatever it reads: a subspace of no dimensions about it."""
    return Linear(value, value.new_zeros(len(value), 0), value.new_zeros(0, len(value)))


def require_size(size: int, most: int, name: str, of: str = "dimensions at this site") -> None:
    """Refuse a code larger than what it codes.

    Raises:
        UsageError: the size is under 1 or over `most`.
    """
    if not 1 <= size <= most:
        raise UsageError(f"{name} = {size} does not fit: there are {most} {of}; choose 1 to {most}")
