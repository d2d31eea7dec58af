"""Where everything is, in numbers: relative positions, and rays to the next wall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from etude.culture.goal_cycle import GoalCycle
from etude.culture.routes import SHIFTS
from etude.culture.views.base import View


@dataclass(frozen=True)
class Compact(View):
    """Rows and columns to each goal and to each other player, as shares of the world's side, who stands on which goal,
    how far the next wall is in four directions, and whether the cell is slow."""

    def width(self, colours: int, players: int) -> int:
        return 4 * colours + (players - 1) * (3 + colours) + 5 + self.feels

    def see(self, game: GoalCycle, player: int, present: Bool[np.ndarray, "B P"]) -> Float[np.ndarray, "B W"]:
        tables = _Tables.of(game)
        colours = game.colours
        places = tables.places.take(game.cells, axis=0)  # [B P 2]
        me = places[:, player, None, :]
        on = tables.one_hot.take(game.standing, axis=0)  # [B P G]
        out = np.empty((game.worlds, self.width(colours, game.players)), np.float32)
        out[:, : 2 * colours] = ((tables.goals - me) * tables.there).reshape(game.worlds, -1)
        out[:, 2 * colours : 3 * colours] = tables.there[..., 0]
        out[:, 3 * colours : 4 * colours] = on[:, player]
        at = 4 * colours
        for other in range(game.players):
            if other != player:
                seen = present[:, other, None]
                out[:, at : at + 2] = (places[:, other] - me[:, 0]) * seen
                out[:, at + 2 : at + 3] = seen
                out[:, at + 3 : at + 3 + colours] = on[:, other] * seen
                at += 3 + colours
        out[:, at : at + 5] = tables.ground.take(game.base[:, 0] + game.cells[:, player], axis=0)
        if self.feels:
            out[:, -1] = game.entered[:, player]
        return out


@dataclass(frozen=True)
class _Tables:
    """What does not change while a game is played."""

    places: Float[np.ndarray, "C 2"]
    goals: Float[np.ndarray, "B G 2"]
    there: Float[np.ndarray, "B G 1"]
    one_hot: Float[np.ndarray, "G+1 G"]
    ground: Float[np.ndarray, "B*C 5"]

    @staticmethod
    def of(game: GoalCycle) -> _Tables:
        """Return the tables of a game, made at the first call."""
        found = game.notes.get(_Tables)
        if found is None:
            found = game.notes[_Tables] = _Tables._make(game)
        return found

    @staticmethod
    def _make(game: GoalCycle) -> _Tables:
        layout, size = game.layout, game.layout.size
        cells = np.stack(np.divmod(np.arange(size * size), size), axis=1)
        places = (cells / (size - 1)).astype(np.float32)
        there = (layout.goals >= 0)[..., None].astype(np.float32)
        goals = places[np.maximum(layout.goals, 0)]
        one_hot = np.eye(game.colours + 1, game.colours, dtype=np.float32)
        ground = np.concatenate([_rays(layout.walls, size), layout.slow[..., None]], axis=2)
        return _Tables(places, goals, there, one_hot, ground.reshape(-1, 5).astype(np.float32))


def _rays(walls: Bool[np.ndarray, "B C"], size: int) -> Float[np.ndarray, "B C 4"]:
    """Return how many cells are free from each cell up, right, down and left, as shares of the world's side."""
    grid = np.ones((len(walls), size + 2, size + 2), bool)
    grid[:, 1:-1, 1:-1] = walls.reshape(-1, size, size)
    found = np.zeros((len(walls), size, size, 4), np.float32)
    for n, (down, right) in enumerate(SHIFTS):
        free = np.ones((len(walls), size, size), bool)
        for far in range(1, size):
            rows = np.clip(np.arange(size) + 1 + far * down, 0, size + 1)
            columns = np.clip(np.arange(size) + 1 + far * right, 0, size + 1)
            free &= ~grid[:, rows][:, :, columns]
            found[..., n] += free
    return (found / (size - 1)).reshape(len(walls), -1, 4)
