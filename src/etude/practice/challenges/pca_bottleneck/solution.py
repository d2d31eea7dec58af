"""Principal components: activations squeezed through the few directions along which they vary most."""

import torch
from torch import Tensor


def fit(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the mean, [D], of activations [N, D] and their k directions of greatest variance, [D, k]."""
    mean = x.mean(dim=0)
    away = x - mean
    directions = torch.linalg.svd(away, full_matrices=False).Vh[:k].T
    return mean, directions


def squeeze(x: Tensor, mean: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Return the code, [..., k], of activations [..., D] and their reconstruction."""
    code = (x - mean) @ directions
    reconstruction = mean + code @ directions.T
    return code, reconstruction


def explained_variance(x: Tensor, reconstruction: Tensor) -> Tensor:
    """Return the share of the variance about the mean that a reconstruction keeps."""
    lost = (x - reconstruction).square().sum()
    whole = (x - x.mean(dim=0)).square().sum()
    return 1 - lost / whole
