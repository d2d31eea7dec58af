"""No memory: what an agent does follows from what it sees now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from etude.culture.memories.base import Memory

if TYPE_CHECKING:
    from etude.culture.remembering import Remembering


@dataclass(frozen=True)
class Without(Memory):
    """A hidden layer in place of a memory: the ablation of M."""

    def build(self, width: int, steps: int) -> Remembering:
        from etude.culture.remembering import Forgetful

        return Forgetful(width)
