"""Encoder and decoder: what is written attends to what was read."""

import math

import torch
from torch import Tensor


def cross_attention(
    x: Tensor, memory: Tensor, kept: Tensor, W_Q: Tensor, W_K: Tensor, W_V: Tensor, W_O: Tensor, heads: int
) -> tuple[Tensor, Tensor]:
    """Let each position of the decoder attend to all positions of the source (Vaswani et al. 2017, section 3.2.3).

        Q = x W_Q,   K = memory W_K,   V = memory W_V
        A_h = softmax over the source of Q_h K_h^T / sqrt(D / H), where padding of the source has a share of exactly 0
        out = (A_1 V_1, ..., A_H V_H, side by side) W_O

    Head h has columns h D/H to (h + 1) D/H - 1 of Q, K and V, h from 0. There is no causal mask: the source is all read
    before the first word is written.

    Args:
        x: the decoder's positions, [B, T, D].
        memory: what the encoder made of the source, [B, S, D].
        kept: true where the source has a token, false where it is padding, [B, S]. Every source has some token.
        W_Q, W_K, W_V, W_O: [D, D].
        heads: H, which divides D.

    Returns:
        out, [B, T, D], and the patterns A, [B, H, T, S].
    """
    raise NotImplementedError
