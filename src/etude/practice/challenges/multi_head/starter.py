"""Multi-head attention: several heads look at once, each at its own part of the width."""

import math

import torch
from torch import Tensor


def multi_head(x: Tensor, W_Q: Tensor, W_K: Tensor, W_V: Tensor, W_O: Tensor, heads: int) -> Tensor:
    """Return what causal attention with several heads writes to the residual stream.

        q = x W_Q,  k = x W_K,  v = x W_V, each [B, T, D]
        head h has columns hK to (h + 1)K - 1 of each, where K = D / heads
        z_h    = softmax(q_h k_hᵀ / √K) v_h, where position i sees the positions j <= i alone
        output = [z_0, z_1, ...] W_O, the heads' z side by side, each in its own columns

    (Vaswani et al. 2017, section 3.2.2.)

    Args:
        x: the residual stream, [B, T, D].
        W_Q: to the queries of all heads, [D, D].
        W_K: to their keys, [D, D].
        W_V: to their values, [D, D].
        W_O: from all heads back to the stream, [D, D].
        heads: how many there are; it divides D. It may be 1.

    Returns:
        [B, T, D]. x itself is not added.
    """
    raise NotImplementedError
