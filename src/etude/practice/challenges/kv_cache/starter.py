"""Attention with a cache: keys and values of the past are kept, not computed again."""

import math

import torch
from torch import Tensor


def step(
    x: Tensor, W_Q: Tensor, W_K: Tensor, W_V: Tensor, W_O: Tensor, keys: Tensor, values: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Let the newest position attend to itself and to all before it, of which the keys and values are at hand.

        q = x W_Q,   keys' = keys with x W_K added as the last,   values' = values with x W_V added as the last
        shares = softmax over the T + 1 positions of q keys'^T / sqrt(K)
        out = (shares values') W_O

    Args:
        x: the newest position of each of B texts, [B, D].
        W_Q, W_K, W_V: [D, K].
        W_O: [K, D].
        keys: x W_K of the T positions before, oldest first, [B, T, K]. T is 0 at the first step.
        values: x W_V of them, [B, T, K].

    Returns:
        out, [B, D], then keys' and values', [B, T + 1, K], to be given to the next step. What is given is not changed.

    Stepping through a text gives, position by position, what causal attention over the whole text gives at once.
    """
    raise NotImplementedError
