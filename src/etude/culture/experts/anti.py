"""An expert in the wrong order: the probe of who follows without judging."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from etude.culture.experts._towards import steps_to, towards
from etude.culture.experts.base import Expert
from etude.culture.goal_cycle import GoalCycle


@dataclass(frozen=True)
class Anti(Expert):
    """Go the hidden order backwards, the shortest ways (Shah et al. 2022, arXiv 2210.01790, section 3.1).

    A wrong goal leaves the one that is due as it was, so with G goals every (G - 1)th that it enters is due after all:
    with 2 it errs never and with 3 half of the time.
    """

    def act(self, game: GoalCycle, player: int, draw: np.random.Generator) -> Int[np.ndarray, " B"]:
        preceding = game.notes.get(Anti)
        if preceding is None:
            game.layout.require_playable()
            preceding = game.notes[Anti] = _preceding(game)
        key = (Anti, player)
        standing = game.standing[:, player]
        if game.steps == 0 or key not in game.notes:
            away = np.where(game.layout.goals >= 0, steps_to(game, player), np.iinfo(np.int16).max)
            game.notes[key] = np.argmin(away, axis=1)
        goal = game.notes[key]
        reached = standing == goal
        goal = np.where(reached, preceding[np.arange(game.worlds), goal], goal)
        game.notes[key] = goal
        return towards(game, player, goal)


def _preceding(game: GoalCycle) -> Int[np.ndarray, "B G"]:
    """Return the colour before each in the hidden order."""
    found = np.zeros((game.worlds, game.colours), np.int64)
    world, colour = np.nonzero(game.layout.following >= 0)
    found[world, game.layout.following[world, colour]] = colour
    return found
