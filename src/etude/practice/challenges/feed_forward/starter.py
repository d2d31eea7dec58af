"""The feed-forward network: what a transformer does at each position by itself."""

import math

import torch
from torch import Tensor


def gelu(x: Tensor) -> Tensor:
    """Keep of each number the share of a standard normal distribution that lies below it.

        gelu(x) = x Φ(x), with Φ(x) = (1 + erf(x / √2)) / 2

    (Hendrycks and Gimpel 2016, "Gaussian Error Linear Units", section 2.) It is exact, not one of the approximations
    by tanh or a sigmoid. `x` has any shape, and the result the same.
    """
    raise NotImplementedError


def feed_forward(x: Tensor, W_in: Tensor, b_in: Tensor, W_out: Tensor, b_out: Tensor) -> Tensor:
    """Take each position into a wider space, through gelu, and back.

        out = gelu(x W_in + b_in) W_out + b_out

    (Vaswani et al. 2017, section 3.3, with gelu for their ReLU, as in GPT-2.)

    Args:
        x: the stream, [..., D].
        W_in: [D, F].
        b_in: [F].
        W_out: [F, D].
        b_out: [D].

    Returns:
        [..., D]: what is written to the stream; x itself is not added.
    """
    raise NotImplementedError
