"""GPT-3's attention: dense layers and locally banded ones, by turns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from etude.core.errors import UsageError
from etude.nn.attention.base import Attention, AttentionShape

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Banded(Attention):
    """Dense and locally banded layers alternate, the first dense (Brown et al. 2020, section 2.1, after Child et al.
    2019). The paper does not print its band; 256 is what Child et al. attend to in a row.

    Attributes:
        window: how many positions a banded layer sees, itself among them.
    """

    window: int = 256

    def check(self) -> None:
        if self.window < 1:
            raise UsageError(f"banded.window = {self.window}: a position sees at least itself; give 1 or more")

    def build(self, shape: AttentionShape) -> nn.Module:
        from etude.nn.multi_head import MultiHead
        from etude.nn.rule import Rule

        return MultiHead(shape, Rule(causal=shape.causal, window=self.window if shape.layer % 2 else 0))
