"""A text classifier: the mean of a text's embeddings, and a linear map to its classes."""

import torch
from torch import Tensor


def pooled(tokens: Tensor, embedding: Tensor, padding: int) -> Tensor:
    """Return the mean embedding of each text's own tokens (the neural bag of words; Iyyer et al. 2015, section 2.1).

        mean_b = sum over t with tokens[b, t] != padding of embedding[tokens[b, t]], divided by the number of such t

    Args:
        tokens: texts of different lengths, filled up to the longest with `padding`, [B, T].
        embedding: [V, D]. Its row for the padding may hold anything, and counts for nothing.
        padding: a token's number, which no text has as its own.

    Returns:
        [B, D]. A text without any token has zeros.
    """
    raise NotImplementedError


def loss(vectors: Tensor, W: Tensor, b: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of the texts' classes, in nats.

        scores = vectors W + b,   loss = mean over texts of -ln softmax(scores)[label]

    Args:
        vectors: of each text, [B, D].
        W: [D, C].
        b: [C].
        labels: the class of each text, whole numbers below C, [B].

    Returns:
        One number, as a tensor without axes. Scores may be in the hundreds.
    """
    raise NotImplementedError
