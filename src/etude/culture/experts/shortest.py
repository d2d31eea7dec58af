"""An expert that knows the order and takes the shortest ways."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from etude.culture.experts._towards import steps_to, towards
from etude.culture.experts.base import Expert
from etude.culture.goal_cycle import GoalCycle


@dataclass(frozen=True)
class Shortest(Expert):
    """Go from goal to goal in the hidden order by breadth-first search. It begins with the goal from which it enters
    the most in the steps that are left, of several the nearest: no player that makes no mistake can count more."""

    def act(self, game: GoalCycle, player: int, draw: np.random.Generator) -> Int[np.ndarray, " B"]:
        goal = game.next[:, player]
        unbegun = goal < 0
        if unbegun.any():
            key = (type(self), player)
            if game.steps == 0 or key not in game.notes:
                game.notes[key] = best_first(game, player, game.length - game.steps)
            goal = np.where(unbegun, game.notes[key], goal)
        return towards(game, player, goal)


def best_first(game: GoalCycle, player: int, steps: int) -> Int[np.ndarray, " B"]:
    """Return the colour of the goal to begin with, to enter as many as can be entered in so many steps.

    Raises:
        UsageError: a goal cannot be reached.
    """
    layout, each = game.layout, np.arange(game.worlds)[:, None]
    layout.require_playable()
    there = layout.goals >= 0
    following = np.where(there, layout.following, 0)
    at = np.where(there, layout.goals, 0)
    leg = layout.away[each, following, at].astype(np.int64)  # [B G]: from each goal to the one after it
    left = steps - steps_to(game, player).astype(np.int64)  # steps that are left once the first is entered
    number = there.sum(1, keepdims=True)
    round_trip = np.where(there, leg, 0).sum(1, keepdims=True)
    entered = np.where(left >= 0, 1 + number * (left // round_trip), 0)
    rest, goal = np.where(left >= 0, left % round_trip, -1), np.broadcast_to(np.arange(game.colours), there.shape)
    for _ in range(game.colours - 1):
        rest = rest - leg[each, goal]
        entered = entered + (rest >= 0)
        goal = following[each, goal]
    return np.argmax(np.where(there, entered * 100_000 + left, -1_000_000_000), axis=1)
