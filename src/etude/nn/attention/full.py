"""Full causal attention: each position sees itself and everything before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from etude.nn.attention.base import Attention, AttentionShape

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Full(Attention):
    """Each position sees itself and everything before it."""

    def build(self, shape: AttentionShape) -> nn.Module:
        from etude.nn.multi_head import MultiHead

        return MultiHead(shape)

    def parameters(self, shape: AttentionShape) -> int:
        D, H, K = shape.width, shape.heads, shape.head_width
        return 4 * D * H * K + (3 * H * K + D if shape.biases else 0)

    def flops(self, shape: AttentionShape, context: int) -> int:
        D, H, K = shape.width, shape.heads, shape.head_width
        maps = 4 * 2 * D * H * K
        scores_and_mixing = 2 * 2 * context * H * K  # the whole square, as papers count; half of it is masked
        return maps + scores_and_mixing
