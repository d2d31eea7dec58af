"""Orthogonal projection: the part of a vector that others can express, and what is left of it."""

import torch
from torch import Tensor


def project(x: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Split x into its part in the span of some vectors and the remainder.

    With A the matrix whose rows are the vectors a_1, ..., a_K, the part is the point c A of their span that is nearest
    to x. What is left is then perpendicular to all of them:

        x = part + remainder,    part = c A,    remainder . a_k = 0  for every k

    Args:
        x: of shape [..., D]. A vector is the last axis; before it there may be any number of axes, or none.
        vectors: A, of shape [K, D], 1 <= K <= D. The rows are linearly independent. They are not of length 1, nor
            perpendicular to one another.

    Returns:
        part: of the shape of x, in the span of the vectors.
        remainder: of the shape of x. It is 0 where K = D.
    """
    raise NotImplementedError
