"""A memory that looks back: the house's blocks over the steps of an episode."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from etude.culture.remembering import Kept, Remembering
from etude.models.cache import Cache
from etude.nn.attention.base import AttentionShape
from etude.nn.block import Block
from etude.nn.feedforward import FeedForward
from etude.nn.multi_head import MultiHead
from etude.nn.norm import LayerNorm
from etude.nn.view import View


class LookingBack(Remembering):
    """Pre-norm blocks with causal attention; what is kept are the keys and values of the steps so far.

    An episode that is learned from is read whole; what was kept serves acting alone, without gradients.
    """

    def __init__(self, width: int, layers: int, heads: int, hidden: int, steps: int) -> None:
        super().__init__(width)
        shape = AttentionShape(width=width, heads=heads, context=steps, rotary_base=10_000.0)
        self.layers = nn.ModuleList(
            Block(width, MultiHead(shape), FeedForward(width, hidden), lambda: LayerNorm(width)) for _ in range(layers)
        )
        self.final_norm = LayerNorm(width)
        self.steps = steps

    def forward(self, x: Float[Tensor, "B T D"], kept: Kept) -> tuple[Float[Tensor, "B T D"], Kept]:
        view = View()
        if not x.requires_grad:
            kept = kept or Cache(self.steps)
            stands = torch.arange(kept.length, kept.length + x.shape[1], device=x.device)
            view = View(positions=stands.expand(x.shape[:2]), past=kept)
            kept.length += x.shape[1]
        for layer in self.layers:
            x = layer(x, view)
        return self.out(self.final_norm(x)), kept
