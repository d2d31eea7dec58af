"""What a memory is: a module that reads what an agent sees, step after step, and keeps what it needs."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etude.core.family import Member

if TYPE_CHECKING:
    from etude.culture.remembering import Remembering


@dataclass(frozen=True)
class Memory(Member):
    """Base of the family."""

    @abstractmethod
    def build(self, width: int, steps: int) -> Remembering:
        """Return the module.

        Args:
            width: D, of what it reads and of what it gives.
            steps: of the longest episode.

        Raises:
            UsageError: it cannot be of that width.
        """
