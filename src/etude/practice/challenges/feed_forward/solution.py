"""The feed-forward network: what a transformer does at each position by itself."""

import math

import torch
from torch import Tensor


def gelu(x: Tensor) -> Tensor:
    """Return x Φ(x), with Φ the standard normal distribution function."""
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def feed_forward(x: Tensor, W_in: Tensor, b_in: Tensor, W_out: Tensor, b_out: Tensor) -> Tensor:
    """Take each position of [..., D] into a space of width F, through gelu, and back."""
    return gelu(x @ W_in + b_in) @ W_out + b_out
