"""InfoVAE: an autoencoder whose codes, taken together, look like draws from a prior."""

import torch
from torch import Tensor


def mmd(z: Tensor, prior: Tensor, variance: float) -> Tensor:
    """Estimate the squared maximum mean discrepancy between two samples.

        k(a, b) = exp(-|a - b|^2 / (2 variance))

        mmd = sum_{i != j} k(z_i, z_j) / (N (N - 1)) + sum_{i != j} k(p_i, p_j) / (M (M - 1))
              - 2 sum_{i, j} k(z_i, p_j) / (N M)

    The first two sums leave out each point with itself, so that the estimate is unbiased (Gretton et al. 2012, "A
    Kernel Two-Sample Test", lemma 6); it may be slightly below 0.

    Args:
        z: codes, of shape [N, K], N >= 2.
        prior: draws from the prior, of shape [M, K], M >= 2.
        variance: of the kernel.

    Returns:
        A tensor of shape [].
    """
    raise NotImplementedError


def infovae_loss(x: Tensor, reconstruction: Tensor, z: Tensor, prior: Tensor, weight: float, variance: float) -> Tensor:
    """Return reconstruction error plus weighted discrepancy (Zhao, Song and Ermon 2017, InfoVAE, in its MMD form).

        loss = 1/N sum_n |x_n - reconstruction_n|^2 + weight mmd(z, prior)

    Args:
        x: of shape [N, D].
        reconstruction: of x from z, of shape [N, D].
        z, prior, variance: as above.
        weight: of the discrepancy.

    Returns:
        A tensor of shape [], through which gradients flow to the reconstruction and to z.
    """
    raise NotImplementedError
