"""Full attention: each position sees everything, or everything before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from etude.nn.attention.base import Attention, AttentionShape

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Full(Attention):
    """Each position sees itself and everything before it; in an encoder, what comes after it too."""

    def build(self, shape: AttentionShape) -> nn.Module:
        from etude.nn.multi_head import MultiHead

        return MultiHead(shape)
