"""A world with obstacles strewn over it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from etude.core.errors import UsageError
from etude.culture.worlds.base import World


@dataclass(frozen=True)
class Obstacles(World):
    """Single cells, drawn independently, are walls.

    Attributes:
        share: of the cells that are.
    """

    share: float = 0.15

    def check(self) -> None:
        super().check()
        if not 0 <= self.share < 1:
            raise UsageError(f"share = {self.share:g}: give a share of the cells, from 0 to below 1")

    def walls(self, worlds: int, draw: np.random.Generator) -> Bool[np.ndarray, "B C"]:
        return draw.random((worlds, self.size**2)) < self.share
