"""Exact nearest neighbours: the keys of a library that lie closest to a query."""

import torch
from torch import Tensor


def nearest(queries: Tensor, keys: Tensor, k: int) -> Tensor:
    """Find the k keys at the least squared Euclidean distance from each query, as REALM and RETRO do.

        distance(q, x) = sum_d (q_d - x_d)^2

    Args:
        queries: of shape [Q, D].
        keys: of shape [N, D], with N >= k.
        k: how many.

    Returns:
        Numbers of keys, from 0, of shape [Q, k], the nearest first; of keys equally far the lower number first.

    There may be many queries: write it without a loop over them.
    """
    raise NotImplementedError


def nearest_by_cosine(queries: Tensor, keys: Tensor, k: int) -> Tensor:
    """Find the k keys of the greatest cosine, q . x / (|q| |x|), with each query: shapes and order as above, the
    greatest first. No query and no key is the zero vector.
    """
    raise NotImplementedError


def nearest_others(keys: Tensor, k: int) -> Tensor:
    """Find the k nearest of the other keys for each key, by squared distance, of shape [N, k], N > k: order as above.

    A key does not find itself. It does find a copy of itself that has another number, at a distance of 0.
    """
    raise NotImplementedError
