"""Sampling: from logits to one token."""

import torch
from torch import Tensor


def shares(logits: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Return the distribution that the next token is drawn from, [V]."""
    p, order = torch.softmax(logits / temperature, dim=-1).sort(descending=True)
    if top_k > 0:
        p = p * (torch.arange(len(p)) < top_k)
        p = p / p.sum()
    if top_p < 1:
        before = p.cumsum(0) - p
        p = p * (before < top_p)
    return torch.zeros_like(p).scatter(0, order, p / p.sum())


def draw(p: Tensor, u: float) -> int:
    """Return the first token at which the running sum passes u."""
    passed = int((p.double().cumsum(0) <= u).sum())
    last = int(p.nonzero().max())
    return min(passed, last)
