"""Sliding-window attention: each position sees its near past alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from etude.core.errors import UsageError
from etude.nn.attention.base import Attention, AttentionShape

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Sliding(Attention):
    """Each position sees itself and those just before it, and further back only through the layers below (Beltagy et
    al. 2020, section 3.1; Jiang et al. 2023, section 2).

    Attributes:
        window: how many positions it sees, itself among them. In an encoder, as many on the other side.
    """

    window: int = 32

    def check(self) -> None:
        if self.window < 1:
            raise UsageError(f"sliding.window = {self.window}: a position sees at least itself; give 1 or more")

    def build(self, shape: AttentionShape) -> nn.Module:
        from etude.nn.multi_head import MultiHead
        from etude.nn.rule import Rule

        return MultiHead(shape, Rule(causal=shape.causal, window=self.window))
