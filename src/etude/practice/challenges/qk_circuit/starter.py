"""The QK circuit: which token wants to look at which, read off the weights."""

import torch
from torch import Tensor


def qk_circuit(W_E: Tensor, W_Q: Tensor, W_K: Tensor) -> Tensor:
    """Return how much each token, as a query, wants to look at each token, as a key, in every head.

        circuit[h] = W_E W_Q[h] W_K[h]^T W_E^T

    A vector stands to the left of its weights, so token i has the query W_E[i] W_Q[h], and token j the key
    W_E[j] W_K[h]. An entry is their inner product, not divided by sqrt(K) (Elhage et al. 2021, "A Mathematical
    Framework for Transformer Circuits"; there W_E stands transposed, and a vector to the right).

    Args:
        W_E: embedding, of shape [V, D].
        W_Q: of shape [H, D, K].
        W_K: of shape [H, D, K].

    Returns:
        Of shape [H, V, V]: rows are query tokens, columns key tokens.
    """
    raise NotImplementedError


def pattern(circuit: Tensor, tokens: Tensor, K: int) -> Tensor:
    """Return where each head attends in a text, if the embedding of tokens is all that the stream holds.

    The score of query position t for key position s is circuit[h, tokens[t], tokens[s]] / sqrt(K). Where s > t it is
    hidden. Softmax over s makes shares of the scores.

    Args:
        circuit: of shape [H, V, V], as above.
        tokens: whole numbers of shape [T].
        K: the head width.

    Returns:
        Of shape [H, T, T]: rows are query positions, columns key positions.
    """
    raise NotImplementedError
