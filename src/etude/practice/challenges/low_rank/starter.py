"""The best approximation of low rank."""

import torch
from torch import Tensor


def low_rank(W: Tensor, r: int) -> tuple[Tensor, Tensor, Tensor]:
    """Write a matrix as a product of two thin ones, with the least error that rank r allows.

    With the singular value decomposition W = sum_i s_i u_i v_i^T, s_1 >= s_2 >= ..., the matrix of rank r that is
    nearest to W in the Frobenius norm |.|_F is the sum of the first r terms (Eckart and Young 1936). It is returned as
    factors, with its relative error:

        A B = sum_{i <= r} s_i u_i v_i^T,    error = |W - A B|_F / |W|_F,    |W|_F^2 = sum_mn W_mn^2

    Args:
        W: of shape [M, N], not 0. Either side may be the longer.
        r: from 0 to min(M, N).

    Returns:
        A: of shape [M, r].
        B: of shape [r, N]. How A and B share the singular values is free: the product counts.
        error: a tensor of shape [], from 0 (r = min(M, N)) to 1 (r = 0).

    `torch.linalg.svd(W, full_matrices=False)` gives U [M, p], s [p] and V^T [p, N] with p = min(M, N).
    """
    raise NotImplementedError
