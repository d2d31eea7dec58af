"""A recurrent memory: GRU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from etude.culture.memories.base import Memory

if TYPE_CHECKING:
    from etude.culture.remembering import Remembering


@dataclass(frozen=True)
class Gru(Memory):
    """One layer of gated recurrent units (Cho et al. 2014, arXiv 1406.1078, section 2.3)."""

    def build(self, width: int, steps: int) -> Remembering:
        from etude.culture.recurrent import Gru as Layer

        return Layer(width)
