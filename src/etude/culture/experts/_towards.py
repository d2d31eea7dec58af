"""Steps towards a goal, by the routes of a layout."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from etude.culture.goal_cycle import GoalCycle
from etude.culture.routes import FAR, STAY


def towards(game: GoalCycle, player: int, goal: Int[np.ndarray, " B"]) -> Int[np.ndarray, " B"]:
    """Return the action that leads a player to the goal of a colour by a shortest way, entering no other. Where it has
    strayed behind a goal that stands in every way, it leads to the nearest."""
    cells = game.layout.size**2
    steer, row = game.layout.steer.ravel(), np.arange(game.worlds) * game.colours
    actions = steer.take((row + goal) * cells + game.cells[:, player]).astype(np.int64)
    astray = actions == STAY
    if astray.any():
        here = game.standing[:, player]
        others = steps_to(game, player) + FAR * (here[:, None] == np.arange(game.colours))
        out = steer.take((row + np.argmin(others, axis=1)) * cells + game.cells[:, player])
        actions = np.where(astray & (here != goal), out, actions)
    return actions


def steps_to(game: GoalCycle, player: int) -> Int[np.ndarray, "B G"]:
    """Return how many steps each goal is away from a player. A slow cell counts only where it still holds the player:
    who begins in one is free."""
    away, cells = game.layout.away, game.cells[:, player, None]
    each = np.arange(game.worlds)[:, None]
    free = game.layout.slow[each, cells] & ~game.held[:, player, None]
    return away[each, np.arange(game.colours), cells] - free
