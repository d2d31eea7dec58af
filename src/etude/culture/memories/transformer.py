"""A transformer as memory: it looks back at every step of the episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from etude.core.errors import UsageError
from etude.culture.memories.base import Memory

if TYPE_CHECKING:
    from etude.culture.remembering import Remembering


@dataclass(frozen=True)
class Transformer(Memory):
    """Pre-norm blocks with causal attention over the episode and rotary positions, as in the house's decoders.

    Attributes:
        layers: how many.
        heads: of each; they divide the agent's width into even parts.
        feedforward: width of the feed-forward network, in widths of the agent.
    """

    layers: int = 2
    heads: int = 4
    feedforward: int = 2

    def check(self) -> None:
        if min(self.layers, self.heads, self.feedforward) < 1:
            raise UsageError(
                f"layers = {self.layers}, heads = {self.heads}, feedforward = {self.feedforward}: give 1 or more"
            )

    def build(self, width: int, steps: int) -> Remembering:
        from etude.culture.looking_back import LookingBack

        if width % (2 * self.heads):
            raise UsageError(f"width = {width} is not {self.heads} heads of an even width: change one of them")
        return LookingBack(width, self.layers, self.heads, self.feedforward * width, steps)
