"""One episode in one world, as it was walked: what is drawn, without who decided it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from etude.core.errors import UsageError
from etude.culture.layout import Layout


@dataclass(frozen=True, eq=False)
class Walk:
    """T steps of P players.

    Attributes:
        layout: the world, one.
        cells: where each player stood before each step, and after the last.
        entered: what each step counted: 1, 0 or -1.
        seen: whether the players after the first could be seen, at each step.
        names: of the players.

    Raises:
        UsageError: the arrays do not fit each other.
    """

    layout: Layout
    cells: Int[np.ndarray, "T+1 P"]
    entered: Int[np.ndarray, "T P"]
    seen: Bool[np.ndarray, " T"]
    names: tuple[str, ...] = ("learner", "expert")

    def __post_init__(self) -> None:
        steps, players = len(self.seen), len(self.names)
        found = (len(self.layout), self.cells.shape, self.entered.shape)
        if found != (1, (steps + 1, players), (steps, players)) or not steps:
            raise UsageError(
                f"a walk of {steps} steps and {players} players has one world, {steps + 1} by {players} cells and"
                f" {steps} by {players} entered; given were {found[0]}, {found[1]} and {found[2]}"
            )

    @property
    def scores(self) -> Int[np.ndarray, "T+1 P"]:
        """What each player has counted before each step, and after the last."""
        before = np.zeros((1, len(self.names)), np.int64)
        return np.concatenate([before, np.cumsum(self.entered, axis=0, dtype=np.int64)])

    @property
    def order(self) -> list[int]:
        """The colours of the goals in their hidden order, from the lowest."""
        following = self.layout.following[0]
        first = colour = int(np.flatnonzero(self.layout.goals[0] >= 0)[0])
        found = []
        while colour != first or not found:
            found.append(colour)
            colour = int(following[colour])
        return found

    @property
    def leaves(self) -> int | None:
        """The step from which the others are seen no more; 0 where they never are, None where they are to the end."""
        there = np.flatnonzero(self.seen)
        end = int(there[-1]) + 1 if len(there) else 0
        return None if end == len(self.seen) else end

    def told(self) -> str:
        """Return in words what a drawing of it shows."""
        size, order = self.layout.size, ", ".join(str(colour + 1) for colour in self.order)
        scores = ", ".join(f"the {name} {score}" for name, score in zip(self.names, self.scores[-1], strict=True))
        gone = "" if self.leaves is None or len(self.names) == 1 else _gone(self.names[1], self.leaves)
        return (
            f"GoalCycle on {size} by {size} cells, the goals in the hidden order {order}. In {len(self.seen)} steps"
            f" {scores} points.{gone}"
        )


def _gone(name: str, leaves: int) -> str:
    return f" The {name} is seen no more after step {leaves}." if leaves else f" The {name} is never seen."
