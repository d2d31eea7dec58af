"""Steps towards a goal, by the routes of a layout."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from etude.culture.goal_cycle import GoalCycle


def towards(game: GoalCycle, player: int, goal: Int[np.ndarray, " B"]) -> Int[np.ndarray, " B"]:
    """Return the action that leads a player to the goal of a colour by a shortest way, entering no other."""
    cells = game.layout.size**2
    row = np.arange(game.worlds) * game.colours + goal
    return game.layout.steer.ravel().take(row * cells + game.cells[:, player]).astype(np.int64)


def steps_to(game: GoalCycle, player: int) -> Int[np.ndarray, "B G"]:
    """Return how many steps each goal is away from a player."""
    away = game.layout.away
    return away[np.arange(game.worlds)[:, None], np.arange(game.colours), game.cells[:, player, None]]
