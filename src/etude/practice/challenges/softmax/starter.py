"""Softmax: scores become shares."""

import torch
from torch import Tensor


def softmax(x: Tensor) -> Tensor:
    """Turn each row of scores into a distribution.

        softmax(x)_i = exp(x_i) / sum_j exp(x_j)

    Args:
        x: scores, of shape [..., N]. A row is the last axis; before it there may be any number of axes, or none.

    Returns:
        Shares of the same shape, each row of which sums to 1.

    Scores may be as large as 1,000, and exp(1000) is infinite: shares have to be finite all the same.
    """
    raise NotImplementedError
