"""The QK circuit: which token wants to look at which, read off the weights."""

import torch
from torch import Tensor


def qk_circuit(W_E: Tensor, W_Q: Tensor, W_K: Tensor) -> Tensor:
    """Return the scores between tokens, [H, V, V], before they are divided by sqrt(K)."""
    queries, keys = W_E @ W_Q, W_E @ W_K
    return queries @ keys.mT


def pattern(circuit: Tensor, tokens: Tensor, K: int) -> Tensor:
    """Return the attention, [H, T, T], that a circuit [H, V, V] gives between the tokens [T] of a text."""
    scores = circuit[:, tokens[:, None], tokens[None, :]] / K**0.5
    future = torch.ones(len(tokens), len(tokens), dtype=torch.bool).triu(1)
    return scores.masked_fill(future, float("-inf")).softmax(dim=-1)
