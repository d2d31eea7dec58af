"""Sampling: from logits to one token."""

import torch
from torch import Tensor


def shares(logits: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Return the distribution that the next token is drawn from. The three act in this order:

        1. p = softmax(logits / temperature)
        2. top-k (Fan et al. 2018, section 5.2): the k likeliest tokens are kept; what they have is made to sum to 1
        3. top-p (Holtzman et al. 2020, section 3.1): of what step 2 gives, the fewest tokens, likeliest first, whose
           shares together are at least top_p are kept; what they have is made to sum to 1

    Args:
        logits: of each token, [V]. No two are equal.
        temperature: above 0. Below 1 the likely tokens become likelier.
        top_k: k; 0 for no such step. It may be above V.
        top_p: above 0 and at most 1; 1 for no such step. The likeliest token is always kept.

    Returns:
        Shares, [V], each at its token's own place, which sum to 1. What is not kept is exactly 0.
    """
    raise NotImplementedError


def draw(p: Tensor, u: float) -> int:
    """Return the token that a uniform number draws, by inverting the distribution function.

        the first token i with p_0 + ... + p_i > u

    Args:
        p: shares, [V], which sum to 1 up to rounding.
        u: at least 0 and below 1, a Python number. It may be closer to 1 than a sum of floats comes: then it draws the
            last token with a share above 0.

    Returns:
        The token's number, as a Python int. A token with a share of 0 is never drawn.
    """
    raise NotImplementedError
