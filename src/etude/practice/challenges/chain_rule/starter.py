"""The chain rule by hand: the backward pass of a network with one hidden layer."""

import torch
from torch import Tensor


def gradients(x: Tensor, W_1: Tensor, b_1: Tensor, W_2: Tensor, b_2: Tensor, g: Tensor) -> dict[str, Tensor]:
    """Return the gradient of a loss L with respect to everything that a small network is made of.

        a = x W_1 + b_1,  h = tanh(a),  y = h W_2 + b_2

    The loss is some function of y, and all that is known of it is its gradient there, g = ∂L/∂y. By the chain rule,
    ∂L/∂u = sum over all entries (n, m) of y of g[n, m] ∂y[n, m]/∂u, for each entry u of x, W_1, b_1, W_2 or b_2.

    Args:
        x: N rows, [N, D].
        W_1: [D, F].
        b_1: [F], added to each row.
        W_2: [F, M].
        b_2: [M], added to each row.
        g: the gradient of L with respect to y, [N, M].

    Returns:
        The gradients by the names "x", "W_1", "b_1", "W_2" and "b_2", each of the shape of what it is of. Where L is a
        mean over rows, g has been divided by N already: nothing else is to be.
    """
    raise NotImplementedError
