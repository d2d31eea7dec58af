"""Log-sum-exp: the logarithm of softmax's denominator."""

import torch
from torch import Tensor


def log_sum_exp(x: Tensor) -> Tensor:
    """Return the logarithm of the sum of each row's exponentials: [..., N] to [...]."""
    largest = x.max(dim=-1, keepdim=True).values
    shift = largest.masked_fill(largest.isneginf(), 0.0)
    return (x - shift).exp().sum(dim=-1).log() + shift.squeeze(-1)
