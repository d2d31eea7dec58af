"""Scaled dot-product attention (Vaswani et al. 2017, section 3.2.1), as its paper writes it.

Single-head attention is these functions as they stand; multi-head attention is the same with a head axis among the
leading ones (`multi_head.py`).
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

SHORT = 512 * 512
"""Queries times keys up to which, in bf16 on a CPU, making the pattern is faster than not making it."""


def attention_scores(
    q: Float[Tensor, "*N T K"], k: Float[Tensor, "*N S K"], scale: float | None = None
) -> Float[Tensor, "*N T S"]:
    """Return q kᵀ / √K, or q kᵀ · scale: how well each query fits each key, before any mask."""
    fit = q @ k.mT
    return fit / math.sqrt(q.shape[-1]) if scale is None else fit * scale


def attention_pattern(
    scores: Float[Tensor, "*N T S"], mask: Bool[Tensor, "*#M #T S"] | None = None
) -> Float[Tensor, "*N T S"]:
    """Return the weights that each position gives to those it may see; every row sums to 1.

    Args:
        scores: from `attention_scores`.
        mask: true where position T may see position S; None lets everybody see everybody. A row that may see nothing
            gives NaN.
    """
    return (scores if mask is None else scores.masked_fill(~mask, -math.inf)).softmax(dim=-1)


def scaled_dot_product(
    q: Float[Tensor, "*N T K"],
    k: Float[Tensor, "*N S K"],
    v: Float[Tensor, "*N S K"],
    mask: Bool[Tensor, "*#M #T S"] | None = None,
) -> Float[Tensor, "*N T K"]:
    """Return softmax(q kᵀ / √K) v over the positions that the mask lets through (equation 1)."""
    return attention_pattern(attention_scores(q, k), mask) @ v


def fused_attention(
    q: Float[Tensor, "*N T K"],
    k: Float[Tensor, "*N S K"],
    v: Float[Tensor, "*N S K"],
    mask: Bool[Tensor, "*#M #T S"] | None = None,
    dropout: float = 0.0,
    causal: bool = False,
    scale: float | None = None,
) -> Float[Tensor, "*N T K"]:
    """Return what `scaled_dot_product` does, by PyTorch's fused kernel, which never makes the pattern.

    On a CPU in bf16, where there may be a backward pass, the kernel is the slower way: its backward pass takes several
    times as long in bf16 as in fp32, and either longer than matrix products in bf16 that make the pattern after all
    (LOG.md, 2026-11-21). So up to `SHORT` these are taken, and beyond it, where the pattern would take much memory, the
    kernel in fp32.

    Args:
        q: queries.
        k: keys.
        v: values.
        mask: who may see whom; None lets everybody see everybody.
        dropout: chance that a weight of the pattern is dropped.
        causal: the causal mask, without a mask and for as many keys as queries: the kernel is fastest then.
        scale: what products are multiplied by; None is 1/√K.
    """
    if q.device.type != "cpu" or q.dtype != torch.bfloat16 or not torch.is_grad_enabled():
        return F.scaled_dot_product_attention(q, k, v, mask, dropout, causal, scale=scale)
    if q.shape[-2] * k.shape[-2] <= SHORT:
        return _explicit(q, k, v, mask, dropout, causal, scale)
    with torch.autocast("cpu", enabled=False):
        z = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), mask, dropout, causal, scale=scale)
    return z.to(q.dtype)


def _explicit(
    q: Float[Tensor, "*N T K"],
    k: Float[Tensor, "*N S K"],
    v: Float[Tensor, "*N S K"],
    mask: Bool[Tensor, "*#M #T S"] | None,
    dropout: float,
    causal: bool,
    scale: float | None,
) -> Float[Tensor, "*N T K"]:
    """Return attention by way of its pattern, all of it in the precision of the queries.

    The mask is added, as minus infinity, in the product that makes the scores, which is one pass less than filling
    them.
    """
    factor = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    many, T, S = q.shape[:-2], q.shape[-2], k.shape[-2]
    if mask is None:
        hidden = _future(T, q.dtype) if causal else q.new_zeros(1)
    else:
        hidden = q.new_zeros(mask.shape).masked_fill_(~mask, -math.inf)
        hidden = hidden if mask.ndim == 2 else hidden.expand(*many, T, S).reshape(-1, T, S)
    scores = torch.baddbmm(hidden, q.reshape(-1, *q.shape[-2:]), k.reshape(-1, *k.shape[-2:]).mT, alpha=factor)
    pattern = scores.softmax(dim=-1)
    pattern = F.dropout(pattern, dropout) if dropout else pattern
    return (pattern @ v.reshape(-1, *v.shape[-2:])).unflatten(0, many)


def _future(length: int, dtype: torch.dtype) -> Float[Tensor, "T S"]:
    """Return minus infinity where a position may not look, and 0 elsewhere. Kept, since every layer of a small model
    would spend as long on making it as on using it."""
    if torch.compiler.is_compiling():  # what is made while tracing has no numbers
        return _make_future(length, dtype)
    return _kept_future(length, dtype)


def _make_future(length: int, dtype: torch.dtype) -> Float[Tensor, "T S"]:
    return torch.full((length, length), -math.inf, dtype=dtype).triu_(1)


_kept_future = lru_cache(maxsize=8)(_make_future)


def causal_mask(length: int, device: torch.device | None = None) -> Bool[Tensor, "T S"]:
    """Return the mask under which each position sees itself and what came before it."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()
