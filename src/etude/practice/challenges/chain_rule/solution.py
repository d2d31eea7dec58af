"""The chain rule by hand: the backward pass of a network with one hidden layer."""

import torch
from torch import Tensor


def gradients(x: Tensor, W_1: Tensor, b_1: Tensor, W_2: Tensor, b_2: Tensor, g: Tensor) -> dict[str, Tensor]:
    """Return the gradient of a loss with respect to x, W_1, b_1, W_2 and b_2, from that with respect to y."""
    h = torch.tanh(x @ W_1 + b_1)
    g_a = (g @ W_2.mT) * (1 - h.square())
    return {
        "x": g_a @ W_1.mT,
        "W_1": x.mT @ g_a,
        "b_1": g_a.sum(dim=0),
        "W_2": h.mT @ g,
        "b_2": g.sum(dim=0),
    }
