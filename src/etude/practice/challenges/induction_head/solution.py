"""An induction head by hand: two attention heads, one in each of two layers, that continue what was there before."""

import torch
from torch import Tensor

SHARP = 20.0


def previous_token_head(V: int, T: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the weights of layer 0: position s answers to a query from s + 1, and its token is copied."""
    D = 3 * V + T
    W_Q, W_K = torch.zeros(D, T), torch.zeros(D, T)
    W_V, W_O = torch.zeros(D, V), torch.zeros(V, D)
    W_Q[V : V + T] = SHARP * torch.eye(T)
    W_K[V : V + T] = torch.eye(T).roll(1, dims=1)
    W_V[:V] = torch.eye(V)
    W_O[:, V + T : 2 * V + T] = torch.eye(V)
    return W_Q, W_K, W_V, W_O


def induction_head(V: int, T: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the weights of layer 1: a token's query meets the key of the token before, and the token is copied."""
    D = 3 * V + T
    q, k, v, o = (torch.zeros(D, V) for _ in range(4))
    q[0:V] = SHARP * torch.eye(V)
    k[V + T : 2 * V + T] = torch.eye(V)
    v[0:V] = torch.eye(V)
    o[2 * V + T : D] = torch.eye(V)
    return q, k, v, o.T
