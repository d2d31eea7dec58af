"""A recurrent memory: LSTM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from etude.culture.memories.base import Memory

if TYPE_CHECKING:
    from etude.culture.remembering import Remembering


@dataclass(frozen=True)
class Lstm(Memory):
    """One layer of long short-term memory (Hochreiter and Schmidhuber 1997), with a forget gate: the paper's."""

    def build(self, width: int, steps: int) -> Remembering:
        from etude.culture.recurrent import Lstm as Layer

        return Layer(width)
