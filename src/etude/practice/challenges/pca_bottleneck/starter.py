"""Principal components: activations squeezed through the few directions along which they vary most."""

import torch
from torch import Tensor


def fit(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the mean of activations and the directions of greatest variance about it.

    The directions are the eigenvectors of the covariance (x - mean)^T (x - mean) / N with the k greatest eigenvalues.

    Args:
        x: of shape [N, D], N > D.
        k: from 1 to D.

    Returns:
        mean: over the N rows, of shape [D].
        directions: in columns, of shape [D, k]: orthonormal, the greatest variance first. Either sign is right.
    """
    raise NotImplementedError


def squeeze(x: Tensor, mean: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Send activations through the bottleneck: to k numbers each, and back.

        code = (x - mean) directions,    reconstruction = mean + code directions^T

    Args:
        x: of shape [..., D]: those that were fitted, or new ones.
        mean: of those that were fitted, of shape [D].
        directions: of shape [D, k], columns orthonormal.

    Returns:
        The code, of shape [..., k], and the reconstruction, of shape [..., D].
    """
    raise NotImplementedError


def explained_variance(x: Tensor, reconstruction: Tensor) -> Tensor:
    """Return the share of the variance that is kept, summed over rows and dimensions, a tensor of shape [].

        1 - sum |x - reconstruction|^2 / sum |x - mean|^2,    with mean that of x over its rows, [D]

    Both arguments have shape [N, D]. It is 1 for a perfect reconstruction, 0 for the mean, and may be below 0.
    """
    raise NotImplementedError
