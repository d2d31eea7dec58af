"""Rotary positions: queries and keys are turned, so that their products know the distance between them."""

import torch
from torch import Tensor


def rotary_positions(x: Tensor, positions: Tensor, base: float = 10000.0) -> Tensor:
    """Turn each pair of neighbouring coordinates of [..., T, K] by its position's angle."""
    width = x.shape[-1]
    angle = positions[:, None] * base ** (-torch.arange(0, width, 2) / width)
    cos, sin = angle.cos(), angle.sin()
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)
