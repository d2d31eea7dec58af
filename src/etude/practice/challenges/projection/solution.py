"""Orthogonal projection: the part of a vector that others can express, and what is left of it."""

import torch
from torch import Tensor


def project(x: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Split x, of shape [..., D], into its part in the span of K vectors, [K, D], and the remainder."""
    gram = vectors @ vectors.T
    coefficients = x @ vectors.T @ torch.linalg.inv(gram)
    part = coefficients @ vectors
    return part, x - part
