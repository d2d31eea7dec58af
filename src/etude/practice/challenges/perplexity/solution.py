"""Perplexity, bits per token and bits per byte: one loss in three units."""

import math


def perplexity(losses: list[list[float]]) -> float:
    """Return exp of the mean loss of a token."""
    return math.exp(mean_loss(losses))


def bits_per_token(losses: list[list[float]]) -> float:
    """Return the mean loss of a token in bits."""
    return mean_loss(losses) / math.log(2)


def bits_per_byte(losses: list[list[float]], texts: list[str]) -> float:
    """Return the loss of all texts in bits, for each UTF-8 byte."""
    size = sum(len(text.encode()) for text in texts)
    return sum(map(sum, losses)) / math.log(2) / size


def mean_loss(losses: list[list[float]]) -> float:
    """Return the mean over all tokens of all texts, in nats."""
    return sum(map(sum, losses)) / sum(map(len, losses))
