"""Sinusoidal positions: a vector for each position, from clocks of different speeds."""

import torch
from torch import Tensor


def sinusoidal_positions(length: int, width: int) -> Tensor:
    """Return the position vectors [T, D] of Vaswani et al. 2017: sines in even columns, cosines in odd ones."""
    rates = 10_000.0 ** (-torch.arange(0, width, 2) / width)
    angle = torch.arange(length)[:, None] * rates
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)
