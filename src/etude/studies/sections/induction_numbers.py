"""What the induction study calls an induction head, and a phase change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from etude.core.run import Run

ENOUGH = 0.6
"""The share of all that is gained which has to come within one stretch of the training for a phase change."""

SHORT = 0.2
"""The longest such a stretch can be, as a share of the training."""

LEAST = 0.5
"""Nats per token that repeats have to be easier by in the end, for there to be anything that changed."""


def induction_heads(run: Run) -> list[str]:
    """Return the heads that do induction: attention to the token after the last occurrence that is more than twice what
    even attention gives, and more than looking back by another period gives, intervals apart, and at least half of the
    strongest head's."""
    chance = run.result["chance"]
    found = []
    for head in run.result["heads"]:
        score, off = head["induction"], head["off_period"]
        if score["low"] > 2 * chance and (off is None or score["low"] > off["high"]):
            found.append(head)
    most = max((head["induction"]["mean"] for head in found), default=0.0)
    return [head["head"] for head in found if head["induction"]["mean"] >= most / 2]


class Rise(NamedTuple):
    """The shortest stretch of a training in which `ENOUGH` of a rise comes.

    Attributes:
        start: the step where it begins.
        end: the step where it ends.
        share: of the whole training.
        gained: share of the whole rise that comes within it.
        total: the whole rise, from the first value to the last.
    """

    start: int
    end: int
    share: float
    gained: float
    total: float

    @property
    def sudden(self) -> bool:
        """Whether it is short, and there was something to gain."""
        return self.share <= SHORT and self.total >= LEAST


def steepest(steps: Sequence[int], values: Sequence[float]) -> Rise | None:
    """Return the shortest stretch with `ENOUGH` of the rise, the steepest of several as short; None where nothing rose.

    Args:
        steps: rising, the first and the last of the training among them.
        values: what rises, at each step.
    """
    total = values[-1] - values[0]
    if total <= 0:
        return None
    pairs = [
        Rise(steps[a], steps[b], (steps[b] - steps[a]) / (steps[-1] - steps[0]), (values[b] - values[a]) / total, total)
        for a in range(len(steps))
        for b in range(a + 1, len(steps))
    ]
    return min((rise for rise in pairs if rise.gained >= ENOUGH), key=lambda rise: (rise.share, -rise.gained))
