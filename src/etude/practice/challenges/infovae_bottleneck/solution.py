"""InfoVAE: an autoencoder whose codes, taken together, look like draws from a prior."""

import torch
from torch import Tensor


def mmd(z: Tensor, prior: Tensor, variance: float) -> Tensor:
    """Return the unbiased estimate of the squared maximum mean discrepancy of samples [N, K] and [M, K]."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        squares = (a[:, None] - b[None, :]).square().sum(dim=-1)
        return (-squares / (2 * variance)).exp()

    def within(a: Tensor) -> Tensor:
        table = kernel(a, a)
        return (table.sum() - table.trace()) / (len(a) * (len(a) - 1))

    return within(z) + within(prior) - 2 * kernel(z, prior).mean()


def infovae_loss(x: Tensor, reconstruction: Tensor, z: Tensor, prior: Tensor, weight: float, variance: float) -> Tensor:
    """Return the squared error of a row, on average, and the weighted discrepancy between codes and prior."""
    error = (x - reconstruction).square().sum(dim=-1).mean()
    return error + weight * mmd(z, prior, variance)
