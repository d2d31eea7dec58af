"""Perplexity, bits per token and bits per byte: one loss in three units."""

import math


def perplexity(losses: list[list[float]]) -> float:
    """Return the perplexity of several texts (Jelinek et al. 1977).

        exp of the mean loss of a token

    Args:
        losses: of each text, its tokens' losses -ln p(token | those before it), in nats. Every token counts the same,
            in whatever text it stands; a text without tokens counts for nothing. There is some token.

    Returns:
        A number that is at least 1: the number of equally likely tokens among which a choice would be as hard. A model
        that gives all of V tokens the same share has V. A text may be so long that the sum of its losses has no
        exponential.
    """
    raise NotImplementedError


def bits_per_token(losses: list[list[float]]) -> float:
    """Return the mean loss of a token in bits: a nat is 1 / ln 2 bits."""
    raise NotImplementedError


def bits_per_byte(losses: list[list[float]], texts: list[str]) -> float:
    """Return the loss of all texts together in bits, divided by the bytes of all texts together.

    It compares models whose tokens differ: whoever cuts a text into fewer tokens has less to predict, and more at each.

    Args:
        losses: as above.
        texts: the texts whose tokens these are, in the same order. Their bytes are those of UTF-8, in which `é` has two
            and `語` three. There is some byte.
    """
    raise NotImplementedError
