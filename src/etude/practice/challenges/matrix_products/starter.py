"""Matrix products, index by index.

Read each equation so: an index that stands on both sides is an axis of the result, in the order of the left side; an
index that stands only on the right is summed over.
"""

import torch
from torch import Tensor


def scores(q: Tensor, k: Tensor) -> Tensor:
    """Multiply every query with every key of the same text.

        scores[b, i, j] = sum_d q[b, i, d] k[b, j, d]

    Args:
        q: queries, [B, T, D].
        k: keys, [B, S, D].

    Returns:
        [B, T, S].
    """
    raise NotImplementedError


def weighted_sums(p: Tensor, v: Tensor) -> Tensor:
    """Add up the values of each text, each times its weight.

        out[b, i, d] = sum_j p[b, i, j] v[b, j, d]

    `p` is [B, T, S], `v` is [B, S, D] and the result [B, T, D]. S may be 0: a sum of nothing is 0.
    """
    raise NotImplementedError


def per_head(z: Tensor, W: Tensor) -> Tensor:
    """Multiply each head's vectors by that head's own matrix.

        out[b, t, h, d] = sum_k z[b, t, h, k] W[h, k, d]

    `z` is [B, T, H, K], `W` is [H, K, D] and the result [B, T, H, D].
    """
    raise NotImplementedError
