"""The causal mask: no position sees its future."""

import torch
from torch import Tensor


def causal_mask(scores: Tensor) -> Tensor:
    """Return scores, of shape [..., T, T], with minus infinity where a key is later than its query."""
    length = scores.shape[-1]
    allowed = torch.ones(length, length, dtype=torch.bool, device=scores.device).tril()
    return scores.masked_fill(~allowed, float("-inf"))
