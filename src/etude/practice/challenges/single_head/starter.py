"""A causal attention head: it reads the residual stream, moves information forward, and writes to the stream."""

import math

import torch
from torch import Tensor


def single_head(x: Tensor, W_Q: Tensor, W_K: Tensor, W_V: Tensor, W_O: Tensor) -> Tensor:
    """Return what a causal attention head writes to the residual stream.

        q = x W_Q,  k = x W_K,  v = x W_V
        pattern = softmax(q kᵀ / √K), where position i sees the positions j <= i alone
        output  = pattern v W_O

    (Vaswani et al. 2017, section 3.2; Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".)

    Args:
        x: the residual stream, [B, T, D]: B texts of T positions.
        W_Q: from the stream to queries, [D, K].
        W_K: from the stream to keys, [D, K].
        W_V: from the stream to values, [D, K].
        W_O: from values back to the stream, [K, D].

    Returns:
        [B, T, D]: what the head adds to the stream. Adding it is the block's business, not the head's. T may be 1.
    """
    raise NotImplementedError
