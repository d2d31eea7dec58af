"""A world of rooms: walls from edge to edge, with doors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from etude.core.errors import UsageError
from etude.culture.worlds.base import World


@dataclass(frozen=True)
class Rooms(World):
    """One wall across each way, which makes four rooms, each with doors.

    Attributes:
        doors: openings in each half of a wall.
    """

    size: int = 7
    doors: int = 1

    def check(self) -> None:
        super().check()
        if self.size < 5:
            raise UsageError(f"size = {self.size}: four rooms need 5 cells along a side or more")
        if self.doors < 1:
            raise UsageError(f"doors = {self.doors}: a room without a door cannot be left; give 1 or more")

    def walls(self, worlds: int, draw: np.random.Generator) -> Bool[np.ndarray, "B C"]:
        grid = np.zeros((worlds, self.size, self.size), dtype=bool)
        across = draw.integers(1, self.size - 1, (2, worlds))  # never along the edge
        each = np.arange(worlds)
        grid[each, across[0], :] = True
        grid[each, :, across[1]] = True
        cells = np.arange(self.size)
        for axis in (0, 1):  # of each wall, its two halves on either side of the other wall
            row, crossing = across[axis][:, None], across[1 - axis][:, None]
            for half in (cells < crossing, cells > crossing):
                keys = np.where(half, draw.random(half.shape), 2.0)
                doors = (np.argsort(np.argsort(keys, axis=1), axis=1) < self.doors) & half
                world, place = np.nonzero(doors)
                at = (world, row[world, 0], place) if axis == 0 else (world, place, row[world, 0])
                grid[at] = False
        return grid.reshape(worlds, self.size**2)
