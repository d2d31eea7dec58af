"""Embedding and tied unembedding: one table takes tokens into the stream and the stream back to tokens."""

import torch
from torch import Tensor


def embed(tokens: Tensor, W_E: Tensor) -> Tensor:
    """Look up each token of [..., T] in a table [V, D]: [..., T, D]."""
    return W_E[tokens]


def unembed(x: Tensor, W_E: Tensor) -> Tensor:
    """Score every token by a table [V, D], from vectors [..., D]: [..., V]."""
    return x @ W_E.mT
