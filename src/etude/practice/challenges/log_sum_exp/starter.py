"""Log-sum-exp: the logarithm of softmax's denominator."""

import torch
from torch import Tensor


def log_sum_exp(x: Tensor) -> Tensor:
    """Return the logarithm of the sum of each row's exponentials.

        lse(x) = log sum_j exp(x_j)

    Args:
        x: scores, of shape [..., N]. A row is the last axis; before it there may be any number of axes, or none.

    Returns:
        One number for each row, of shape [...]: the last axis is gone.

    The result is never below the largest score of its row and never more than log N above it. So with scores near
    1000, or near -1000, it has to be finite, although exp(1000) is infinite and exp(-1000) is 0 in 32 bits.

    A score of -infinity, as a mask leaves it, adds nothing to the sum; a row that holds nothing else gives -infinity.
    """
    raise NotImplementedError
