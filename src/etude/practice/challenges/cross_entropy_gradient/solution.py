"""The gradient of cross-entropy: what a model learns from, at each position."""

import torch
from torch import Tensor


def cross_entropy_gradient(logits: Tensor, targets: Tensor, ignore: int = -100) -> Tensor:
    """Return softmax less one-hot, averaged over the positions of [..., V] that have a target."""
    kept = targets != ignore
    one_hot = torch.nn.functional.one_hot(targets.where(kept, 0), logits.shape[-1])
    return (logits.softmax(dim=-1) - one_hot) * kept[..., None] / kept.sum().clamp(min=1)
