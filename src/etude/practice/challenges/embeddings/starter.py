"""Embedding and tied unembedding: one table takes tokens into the stream and the stream back to tokens."""

import torch
from torch import Tensor


def embed(tokens: Tensor, W_E: Tensor) -> Tensor:
    """Look up the vector of each token.

        x[b, t] = W_E[tokens[b, t]]

    Args:
        tokens: whole numbers from 0 to V - 1, of shape [..., T].
        W_E: a row for each token of the vocabulary, [V, D].

    Returns:
        [..., T, D], the rows as they are (Vaswani et al. 2017, section 3.4, multiply them by √D; here nothing does).
        A gradient flows to each row that was looked up, once for each time that it was.
    """
    raise NotImplementedError


def unembed(x: Tensor, W_E: Tensor) -> Tensor:
    """Score every token of the vocabulary by the same table.

        logits[..., v] = sum_d x[..., d] W_E[v, d]

    (Press and Wolf 2017, "Using the Output Embedding to Improve Language Models", section 2.)

    Args:
        x: vectors of the stream, [..., D].
        W_E: the table, [V, D].

    Returns:
        [..., V]: scores, not yet shares. Since the table is tied, it learns from this use too.
    """
    raise NotImplementedError
