"""A small GPT: from tokens to the scores of the next token."""

import math

import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm


def gpt(
    tokens: Tensor, embedding: Tensor, positions: Tensor, blocks: list[dict[str, Tensor]], norm: Tensor, heads: int
) -> Tensor:
    """Return logits, [B, T, V], of tokens, [B, T]."""
    x = embedding[tokens] + positions[: tokens.shape[1]]
    for block in blocks:
        x = x + attention(normed(x, block["norm_1"]), block, heads)
        x = x + feed_forward(normed(x, block["norm_2"]), block)
    return normed(x, norm) @ embedding.T


def normed(x: Tensor, norm: Tensor) -> Tensor:
    """Return the layer norm of x, [..., D]; the norm's rows are gain and bias."""
    return layer_norm(x, x.shape[-1:], norm[0], norm[1])


def feed_forward(y: Tensor, block: dict[str, Tensor]) -> Tensor:
    """Return what the two layers make of each position of y, [B, T, D]."""
    return gelu(y @ block["W_in"] + block["b_in"]) @ block["W_out"] + block["b_out"]


def attention(y: Tensor, block: dict[str, Tensor], heads: int) -> Tensor:
    """Return what each position of y, [B, T, D], gathers from itself and those before it."""
    batch, length, width = y.shape
    q, k, v = (
        (y @ block[name]).view(batch, length, heads, width // heads).transpose(1, 2) for name in ("W_Q", "W_K", "W_V")
    )
    scores = q @ k.transpose(-2, -1) / math.sqrt(width // heads)
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    pattern = scores.masked_fill(future, float("-inf")).softmax(-1)
    gathered = (pattern @ v).transpose(1, 2).reshape(batch, length, width)
    return gathered @ block["W_O"]
