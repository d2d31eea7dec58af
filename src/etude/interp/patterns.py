"""Attention patterns of any text."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from etude.models.transformer import Transformer
from etude.nn.look import look


@torch.no_grad()
def attention_patterns(model: Transformer, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B L H T S"]:
    """Return what every head attends to: row t of a pattern sums to 1 over the positions s that t may see."""
    return torch.stack(list(look(model, tokens, "L*.attn.pattern").values()), 1)
