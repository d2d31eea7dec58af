"""What a world is: a square of cells, and which of them are walls or slow."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from etude.core.errors import UsageError
from etude.core.family import Member


@dataclass(frozen=True)
class World(Member):
    """Base of the family.

    Attributes:
        size: cells along a side.
        slow: share of the cells that hold a player for one step before it can leave.
    """

    size: int = 5
    slow: float = 0.0

    def check(self) -> None:
        if not 2 <= self.size <= 99:
            raise UsageError(f"size = {self.size}: a world has 2 to 99 cells along a side")
        if not 0 <= self.slow <= 1:
            raise UsageError(f"slow = {self.slow:g}: give a share of the cells, from 0 to 1")

    @abstractmethod
    def walls(self, worlds: int, draw: np.random.Generator) -> Bool[np.ndarray, "B C"]:
        """Return where walls stand in so many worlds. Worlds that they cut in parts are drawn again by the caller."""

    def mud(self, worlds: int, draw: np.random.Generator) -> Bool[np.ndarray, "B C"]:
        """Return which cells are slow."""
        return draw.random((worlds, self.size**2)) < self.slow
