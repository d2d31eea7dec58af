"""Composition: how strongly a later head reads what an earlier one writes."""

import torch
from torch import Tensor


def composition(earlier: tuple[Tensor, Tensor], later: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """Score Q-, K- and V-composition of every earlier head with every later one.

    A vector stands to the left of its weights. The earlier head's OV circuit is C = W_V W_O, of shape [D, D], with rows
    read and columns written. What it writes may be read by the later head's query, key or value:

        Q: R = W_Q W_K^T         K: R = (W_Q W_K^T)^T = W_K W_Q^T         V: R = W_V W_O

        score = |C R|_F / (|C|_F |R|_F),    |M|_F^2 = the sum of the squares of all entries of M

    (Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits", on the three kinds of composition; their
    matrices are the transposes of these.)

    Args:
        earlier: W_V of shape [H, D, K] and W_O of shape [H, K, D], of the H heads of one layer.
        later: W_Q, W_K, W_V of shape [G, D, K] and W_O of shape [G, K, D], of the G heads of a later layer.

    Returns:
        Scores from 0 to 1, of shape [3, H, G]: Q, K and V in this order; rows are earlier heads.
    """
    raise NotImplementedError
