"""The causal mask: no position sees its future."""

import torch
from torch import Tensor


def causal_mask(scores: Tensor) -> Tensor:
    """Hide the future from every position.

        masked[i, j] = scores[i, j]  where j <= i
                       -infinity     where j > i

    Args:
        scores: of shape [..., T, T]: row i is the query at position i, column j the key at position j.

    Returns:
        Scores of the same shape, in which softmax gives the future no share at all.
    """
    raise NotImplementedError
