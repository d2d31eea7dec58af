"""The isoFLOP parabola: the best size of a model for one budget."""

import math

import torch
from torch import Tensor


def isoflop_minimum(params: Tensor, losses: Tensor) -> tuple[float, float]:
    """Find the size of least loss among models that all cost the same FLOPs (Hoffmann et al. 2022, section 3.2).

    A budget spent on a model too small, or on too few tokens for a large one, gives a higher loss. In between the loss
    is near to a parabola over the logarithm of the size. It is fitted to all of the points by least squares,

        sum_p (c0 + c1 x_p + c2 x_p^2 - L_p)^2,    x_p = log N_p,

    and its vertex is the answer.

    Args:
        params: N, of shape [P], float64: the sizes, in millions of parameters, in any order. At least three differ.
        losses: L, of shape [P], float64: the loss of each.

    Returns:
        N at the vertex, in millions of parameters, and the loss that the parabola has there. They need be those of no
        model that was trained. Where the parabola opens downwards (c2 <= 0) it has no least loss: both are then
        math.nan.
    """
    raise NotImplementedError
