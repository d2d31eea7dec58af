"""Exact nearest neighbours: the keys of a library that lie closest to a query."""

import torch
from torch import Tensor


def nearest(queries: Tensor, keys: Tensor, k: int) -> Tensor:
    """Return the numbers of the k keys at the least squared distance from each query, [Q, k]."""
    distances = (queries[:, None] - keys).square().sum(dim=-1)
    return distances.argsort(dim=-1, stable=True)[:, :k]


def nearest_by_cosine(queries: Tensor, keys: Tensor, k: int) -> Tensor:
    """Return the numbers of the k keys of the greatest cosine with each query, [Q, k]."""
    cosines = (queries / queries.norm(dim=-1, keepdim=True)) @ (keys / keys.norm(dim=-1, keepdim=True)).T
    return cosines.argsort(dim=-1, descending=True, stable=True)[:, :k]


def nearest_others(keys: Tensor, k: int) -> Tensor:
    """Return the numbers of the k nearest of the other keys for each key, [N, k]."""
    away = (keys[:, None] - keys).square().sum(dim=-1).fill_diagonal_(torch.inf)
    return away.argsort(dim=-1, stable=True)[:, :k]
