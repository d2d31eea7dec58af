"""What is asked of a learner when: a price of mistakes and an absence of the expert that grow with what it can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from etude.core.errors import UsageError
from etude.core.spec import Spec

Pace = Literal["apart", "together", "none"]


@dataclass(frozen=True)
class Curriculum(Spec):
    """How training becomes harder. All of it is in what the learner is paid and shown; scores are always of the game.

    A wrong goal that costs its full price from the start teaches to enter one goal and then none. So it costs little
    until the learner earns a share of what the expert does, and this is told apart for steps with the expert and for
    steps without: who cannot yet do without it would otherwise learn to stand still once it has gone.

    Attributes:
        first: what a wrong goal costs at first.
        last: what it costs in the end.
        earned: the share of the expert's score at which it does.
        pace: whether this is told `apart` for steps with and without the expert, or `together`; `none` has the last
            price from the start.
        absent_from: the share of the expert's score, earned beside it, from which on the expert may be absent; 0 is
            from the start. Before, it is always there.
        beside: whether learner and expert begin in one cell.
        memory: updates over which the shares are averaged.
    """

    first: float = 0.2
    last: float = 1.0
    earned: float = 0.5
    pace: Pace = "apart"
    absent_from: float = 0.6
    beside: bool = True
    memory: int = 20

    def check(self) -> None:
        if min(self.first, self.last) < 0 or self.earned <= 0 or not 0 <= self.absent_from < 1 or self.memory < 1:
            raise UsageError(
                f"first = {self.first:g}, last = {self.last:g}, earned = {self.earned:g}, absent_from ="
                f" {self.absent_from:g}, memory = {self.memory}: give prices from 0, shares, and 1 update or more"
            )

    def price(self, share: float) -> float:
        """Return what a wrong goal costs to who earns a share of the expert's score."""
        if self.pace == "none":
            return self.last
        return self.first + (self.last - self.first) * min(1.0, max(0.0, share / self.earned))


@dataclass
class Progress:
    """How far a learner is.

    Attributes:
        seen: its score a step as a share of the expert's, where it sees the expert.
        unseen: the same where it does not.
        alone: whether the expert is absent at times by now.
    """

    seen: float = 0.0
    unseen: float = 0.0
    alone: bool = False


def rewards(
    entered: Int[np.ndarray, "B T"], present: Bool[np.ndarray, "B T"], plan: Curriculum, at: Progress
) -> Float[np.ndarray, "B T"]:
    """Return what a learner is paid for what it entered."""
    apart = plan.pace == "apart"
    price = np.where(present, plan.price(at.seen), plan.price(at.unseen if apart else at.seen))
    return np.where(entered < 0, -price, entered).astype(np.float32)


def moved_on(
    at: Progress, plan: Curriculum, earned: tuple[float, float], steps: tuple[float, float], expert: float
) -> Progress:
    """Return how far a learner is after an update.

    Args:
        at: how far it was.
        plan: over how many updates this is averaged, and when the expert may be absent.
        earned: its score in steps with the expert, and in steps without.
        steps: how many there were of each.
        expert: the expert's score a step.
    """

    def towards(share: float, score: float, count: float) -> float:
        return share + (score / count / max(expert, 1e-3) - share) / plan.memory if count else share

    seen, unseen = (towards(*of) for of in zip((at.seen, at.unseen), earned, steps, strict=True))
    return Progress(seen, unseen, at.alone or seen >= plan.absent_from)
