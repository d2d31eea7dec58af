"""The Kullback-Leibler divergence: how far one distribution is from another."""

import torch
from torch import Tensor


def kl_divergence(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """Return the divergence of q from p, row by row, in nats (Kullback & Leibler 1951, equation 2.4).

        KL(p || q) = sum_i p_i (ln p_i - ln q_i),   p = softmax(p_logits),   q = softmax(q_logits)

    It is never negative, is 0 where p and q are the same, and is not the same as KL(q || p).

    Args:
        p_logits: of shape [..., N]. A logit of minus infinity is a probability of 0; some entry of a row is finite.
        q_logits: of the same shape, in the same way.

    Returns:
        One number for each row, [...]. An outcome with p_i = 0 adds 0 (the limit of t ln t at 0), also where q_i is 0.
        Where p_i is above 0 and q_i is 0, the divergence is infinite.

    Logits may lie 1,000 apart in a row, so that a finite logit has a probability too small for a float: its logarithm
    is finite all the same, and must stay so.
    """
    raise NotImplementedError
