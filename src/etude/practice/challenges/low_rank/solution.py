"""The best approximation of low rank."""

import torch
from torch import Tensor


def low_rank(W: Tensor, r: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return A [M, r] and B [r, N], whose product is nearest to W [M, N], and the relative error of it."""
    U, s, Vh = torch.linalg.svd(W, full_matrices=False)
    A = U[:, :r] * s[:r]
    B = Vh[:r]
    return A, B, s[r:].norm() / s.norm()
