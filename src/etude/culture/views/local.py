"""The cells around a player, one-hot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from etude.core.errors import UsageError
from etude.culture.goal_cycle import GoalCycle
from etude.culture.views.base import View


@dataclass(frozen=True)
class Local(View):
    """A square window about the player. Each cell says whether it is a wall (beyond the edge is one), slow, the goal of
    each colour, and whether each other player stands there. What is outside the window is not seen.

    Attributes:
        radius: cells that are seen to each side.
    """

    radius: int = 2

    def check(self) -> None:
        if self.radius < 1:
            raise UsageError(f"radius = {self.radius}: a window shows 1 cell to each side or more")

    def width(self, colours: int, players: int) -> int:
        return (2 * self.radius + 1) ** 2 * (2 + colours + players - 1) + self.feels

    def see(self, game: GoalCycle, player: int, present: Bool[np.ndarray, "B P"]) -> Float[np.ndarray, "B W"]:
        ground = self._ground(game)  # [B S+2R S+2R 2+G]
        side, wide = 2 * self.radius + 1, game.layout.size + 2 * self.radius
        rows, columns = np.divmod(game.cells, game.layout.size)
        window = (np.arange(side)[:, None] * wide + np.arange(side)).ravel()
        corner = np.arange(game.worlds) * wide * wide + rows[:, player] * wide + columns[:, player]
        seen = ground.take(corner[:, None] + window, axis=0)  # [B side*side 2+G]
        others = [other for other in range(game.players) if other != player]
        there = np.zeros((game.worlds, side * side, len(others)), np.float32)
        for n, other in enumerate(others):
            down = rows[:, other] - rows[:, player] + self.radius
            right = columns[:, other] - columns[:, player] + self.radius
            inside = (down >= 0) & (down < side) & (right >= 0) & (right < side) & present[:, other]
            at = np.flatnonzero(inside)
            there[at, down[at] * side + right[at], n] = 1
        flat = np.concatenate([seen, there], axis=2).reshape(game.worlds, -1)
        felt = game.entered[:, player, None].astype(np.float32)
        return np.concatenate([flat, felt], axis=1) if self.feels else flat

    def _ground(self, game: GoalCycle) -> Float[np.ndarray, "N 2+G"]:
        found = game.notes.get(self)
        if found is None:
            layout, size, pad = game.layout, game.layout.size, self.radius
            cells = np.zeros((game.worlds, size + 2 * pad, size + 2 * pad, 2 + game.colours), np.float32)
            cells[..., 0] = 1
            inner = cells[:, pad : pad + size, pad : pad + size]
            inner[..., 0] = layout.walls.reshape(-1, size, size)
            inner[..., 1] = layout.slow.reshape(-1, size, size)
            world, colour = np.nonzero(layout.goals >= 0)
            inner[world, *np.divmod(layout.goals[world, colour], size), 2 + colour] = 1
            found = game.notes[self] = cells.reshape(-1, 2 + game.colours)
        return found
