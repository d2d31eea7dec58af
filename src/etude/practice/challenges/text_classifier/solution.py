"""A text classifier: the mean of a text's embeddings, and a linear map to its classes."""

import torch
from torch import Tensor


def pooled(tokens: Tensor, embedding: Tensor, padding: int) -> Tensor:
    """Return the mean embedding of each text's own tokens, [B, D]."""
    own = (tokens != padding).to(embedding.dtype)
    total = (embedding[tokens] * own[..., None]).sum(dim=1)
    count = own.sum(dim=1, keepdim=True)
    return total / count.clamp(min=1)


def loss(vectors: Tensor, W: Tensor, b: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of the texts' classes, in nats."""
    scores = vectors @ W + b
    logarithms = scores.log_softmax(dim=-1)
    return -logarithms[torch.arange(len(labels)), labels].mean()
