"""A linear map in the convention of the papers: `y = x @ W + b`."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


def linear(
    x: Float[Tensor, "*N D_in"],
    W: Float[Tensor, "D_in D_out"],
    b: Float[Tensor, " D_out"] | None = None,
) -> Float[Tensor, "*N D_out"]:
    """Return `x @ W + b`.

    PyTorch's `linear` wants W transposed. It is handed a transposed view, which costs nothing: the matrix product reads
    either order, and takes the bias along in the same kernel.
    """
    return F.linear(x, W.mT, b)


def weight(*sizes: int) -> nn.Parameter:
    """Return a parameter of zeros. A part does not choose its starting weights: the model that holds it does."""
    return nn.Parameter(torch.zeros(sizes))


def bias(wanted: bool, *sizes: int) -> nn.Parameter | None:
    """Return a bias, or None where a part has none."""
    return weight(*sizes) if wanted else None
