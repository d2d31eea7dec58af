"""GoalCycle: goals that pay when they are entered in an order that nobody is told, in many worlds at once.

After "Learning Robust Real-Time Cultural Transmission without Human Data" (arXiv 2203.00715, section 2), on a grid.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int

from etude.culture.layout import Layout
from etude.culture.routes import moves


class GoalCycle:
    """The game under way in B worlds; no loop over worlds.

    A player moves to a neighbouring cell or stays. Entering a goal counts 1 where it is the next in the hidden cyclic
    order after the last one that the player entered rightly, and -1 otherwise, the last one entered again among them.
    The first goal that a player enters is right, whichever it is. A wrong goal leaves the player's place in the order
    as it was. A slow cell holds a player for one step. Players pass through each other, and do not share their place
    in the order.

    Not covered: how long an episode is, who is seen, and what a learner is paid, which are the caller's.

    Attributes:
        layout: the worlds.
        length: steps of an episode, which experts that look ahead ask. The game itself goes on.
        cells: [B P] where each player stands.
        last: [B P] the colour that each entered rightly last; G before the first.
        entered: [B P] what the last step counted for each: 1, 0 or -1.
        held: [B P] whether a slow cell holds a player in the next step.
        steps: how many steps were taken.
        notes: what views and experts keep of these worlds, each under a key of its own.
    """

    def __init__(self, layout: Layout, length: int = 100) -> None:
        self.layout, self.length = layout, length
        worlds, colours = layout.goals.shape
        cells = layout.size**2
        self.colours = colours
        self.notes: dict[object, Any] = {}
        self.steps = 0
        self.cells = layout.starts.astype(np.int64)
        self.last = np.full(self.cells.shape, colours, np.int64)
        self.entered = np.zeros(self.cells.shape, np.int8)
        self.held = np.zeros(self.cells.shape, bool)
        self._moves = moves(layout.size).ravel()
        self._cells = cells
        self.base = (np.arange(worlds) * cells)[:, None]
        self._base_colour = (np.arange(worlds) * (colours + 1))[:, None]
        self._walls, self._slow = layout.walls.ravel(), layout.slow.ravel()
        self._any_slow = bool(self._slow.any())
        goal_at = np.full((worlds, cells), colours, np.int64)
        world, colour = np.nonzero(layout.goals >= 0)
        goal_at[world, layout.goals[world, colour]] = colour
        self._goal_at = goal_at.ravel()
        self._following = np.concatenate([layout.following, np.full((worlds, 1), -1)], axis=1).ravel()

    @property
    def worlds(self) -> int:
        """B."""
        return len(self.cells)

    @property
    def players(self) -> int:
        """P."""
        return self.cells.shape[1]

    @property
    def standing(self) -> Int[np.ndarray, "B P"]:
        """The colour of the goal on which each player stands; G where it stands on none."""
        return self._goal_at.take(self.base + self.cells)

    @property
    def next(self) -> Int[np.ndarray, "B P"]:
        """The colour that counts for each player; -1 before its first goal, when any does."""
        return self._following.take(self._base_colour + self.last)

    def step(self, actions: Int[np.ndarray, "B P"]) -> Int[np.ndarray, "B P"]:
        """Move every player and return what each entered: 1 the right goal, -1 a wrong one, 0 none."""
        to = self._moves.take(actions * self._cells + self.cells)
        stopped = self._walls.take(self.base + to)
        if self._any_slow:
            stopped |= self.held
        to = np.where(stopped, self.cells, to)
        moved = to != self.cells
        if self._any_slow:
            self.held = moved & self._slow.take(self.base + to)
        goal = self._goal_at.take(self.base + to)
        entered = moved & (goal < self.colours)
        right = entered & ((goal == self.next) | (self.last == self.colours))
        self.last = np.where(right, goal, self.last)
        self.cells = to
        self.entered = np.where(right, np.int8(1), -entered.astype(np.int8))
        self.steps += 1
        return self.entered
