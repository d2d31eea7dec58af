"""Softmax: scores become shares."""

import torch
from torch import Tensor


def softmax(x: Tensor) -> Tensor:
    """Turn each row of scores, of shape [..., N], into a distribution of the same shape."""
    exponentials = (x - x.max(dim=-1, keepdim=True).values).exp()
    return exponentials / exponentials.sum(dim=-1, keepdim=True)
