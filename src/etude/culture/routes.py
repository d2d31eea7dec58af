"""The ways between cells: how far each goal is from every cell, and which step leads there."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int

FAR = np.int16(10_000)
"""The distance of what cannot be reached."""

STAY, UP, RIGHT, DOWN, LEFT = range(5)
ACTIONS = 5
SHIFTS = ((-1, 0), (0, 1), (1, 0), (0, -1))
"""Rows and columns that `UP`, `RIGHT`, `DOWN` and `LEFT` go."""


def moves(size: int) -> Int[np.ndarray, "A C"]:
    """Return the cell to which each action leads from each cell, were there no walls. At the edge it stays."""
    rows, columns = np.divmod(np.arange(size * size), size)
    to = [np.arange(size * size)]
    for down, right in SHIFTS:
        to.append(np.clip(rows + down, 0, size - 1) * size + np.clip(columns + right, 0, size - 1))
    return np.stack(to)


def routes(
    size: int, walls: Bool[np.ndarray, "B C"], slow: Bool[np.ndarray, "B C"], goals: Int[np.ndarray, "B G"]
) -> tuple[Int[np.ndarray, "B G C"], Int[np.ndarray, "B G C"]]:
    """Return the steps from each cell to each goal, entering no other goal on the way, and the action that begins them.

    Breadth-first search from all goals of all worlds at once; leaving a slow cell takes two steps. What cannot be
    reached is `FAR`, and its action is to stay. Of several shortest ways one is taken: the first in the order of the
    actions.

    Args:
        size: cells along a side.
        walls: cells that cannot be entered.
        slow: cells that take two steps to leave.
        goals: the cell of each goal; -1 where a world has none of that colour.
    """
    worlds, count = goals.shape
    exists = goals >= 0
    world, colour = np.nonzero(exists)
    taken = walls.copy()  # what a way may not lead through: walls and goals
    taken[world, goals[world, colour]] = True
    shape = (worlds, count, size, size)
    passable = np.broadcast_to(~taken[:, None], (worlds, count, size * size)).reshape(shape)
    cost = (1 + slow.astype(np.int16)).reshape(worlds, 1, size, size)
    padded = np.full((worlds, count, size + 2, size + 2), FAR, np.int16)
    inner = padded[:, :, 1:-1, 1:-1]
    inner[world, colour, *np.divmod(goals[world, colour], size)] = 0
    sides = [padded[:, :, 1 + d : 1 + d + size, 1 + r : 1 + r + size] for d, r in SHIFTS]

    def nearest() -> Int[np.ndarray, "B G S S"]:
        return np.minimum(np.minimum(sides[0], sides[1]), np.minimum(sides[2], sides[3])) + cost

    while True:
        found = np.where(passable, np.minimum(inner, nearest()), inner)
        if np.array_equal(found, inner):
            break
        inner[...] = found
    steer = (1 + np.argmin(np.stack(sides), axis=0)).astype(np.int8)
    away = np.where(passable | (inner == 0), inner, nearest())  # other goals are left, though never passed
    away = np.minimum(away, FAR).reshape(worlds, count, -1)
    away[np.broadcast_to(walls[:, None], away.shape)] = FAR
    steer = np.where((away < FAR) & (away > 0), steer.reshape(worlds, count, -1), np.int8(STAY))
    return away, steer
