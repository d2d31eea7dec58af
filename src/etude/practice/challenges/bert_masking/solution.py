"""BERT's masking: some tokens are hidden, and are to be told from the rest."""

import torch
from torch import Tensor


def masked(
    tokens: Tensor, special: Tensor, chosen_u: Tensor, kind_u: Tensor, other: Tensor, mask: int, share: float = 0.15
) -> tuple[Tensor, Tensor]:
    """Return what the model reads and the labels, both [B, T]."""
    chosen = (chosen_u < share) & ~special
    hidden = chosen & (kind_u < 0.8)
    replaced = chosen & (kind_u >= 0.8) & (kind_u < 0.9)
    inputs = tokens.masked_fill(hidden, mask)
    inputs = torch.where(replaced, other, inputs)
    labels = tokens.masked_fill(~chosen, -100)
    return inputs, labels
