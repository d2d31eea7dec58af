"""Scaled dot-product attention: each query takes a mixture of values."""

import math

import torch
from torch import Tensor


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Let each query attend to the keys, and mix their values.

        scores  = q kᵀ / √K
        pattern = softmax(scores), a distribution over the keys for each query
        output  = pattern v

    (Vaswani et al. 2017, section 3.2.1, equation 1.)

    Args:
        q: queries, [..., T, K].
        k: keys, [..., S, K].
        v: values, [..., S, V], one for each key; V may differ from K.
        mask: true or false, [T, S]: whether query i may see key j. A key that it may not see has a share of exactly
            0, and the others share 1 among them. Each query may see one key at least. None: every key is seen.

    Returns:
        The output, [..., T, V], and the pattern, [..., T, S], in this order.
    """
    raise NotImplementedError
