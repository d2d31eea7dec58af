"""The isoFLOP parabola: the best size of a model for one budget."""

import math

import torch
from torch import Tensor


def isoflop_minimum(params: Tensor, losses: Tensor) -> tuple[float, float]:
    """Return the size, and the loss there, at the vertex of a parabola of loss over the logarithm of the size."""
    x = params.log()
    design = torch.stack([torch.ones_like(x), x, x**2], dim=1)
    c0, c1, c2 = torch.linalg.lstsq(design, losses[:, None]).solution[:, 0].tolist()
    if c2 <= 0:
        return math.nan, math.nan
    vertex = -c1 / (2 * c2)
    return math.exp(vertex), c0 + c1 * vertex + c2 * vertex**2
