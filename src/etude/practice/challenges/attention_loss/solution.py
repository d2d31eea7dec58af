"""The attention loss: an agent learns to say where its expert is."""

import torch
from torch import Tensor


def attention_loss(predicted: Tensor, towards: Tensor, present: Tensor) -> Tensor:
    """Return the mean L1 distance over the steps at which the expert can be seen."""
    off = torch.where(present[..., None], predicted - towards, 0.0)
    return off.abs().sum() / present.sum().clamp(min=1)
