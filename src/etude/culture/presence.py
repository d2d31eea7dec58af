"""Who sees the expert when: masks [T B] that are drawn, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool

from etude.core.errors import UsageError
from etude.core.spec import Spec

Kind = Literal["full", "half", "none"]


@dataclass(frozen=True)
class Presence(Spec):
    """A mixture of ways in which the expert of an episode can be seen; each world draws one (arXiv 2203.00715, section
    3.2, "expert dropout").

    Attributes:
        full: weight of episodes in which it is always there.
        half: weight of those in which it is gone after the first half.
        none: weight of those without it.
        flicker: weight of those in which it comes and goes at random.
        on: mean steps of a stretch with it, where it flickers.
        off: mean steps of a stretch without.
        leaves: weight of those in which it goes for good after a number of steps drawn evenly.
    """

    full: float = 1.0
    half: float = 0.0
    none: float = 0.0
    flicker: float = 0.0
    on: float = 20.0
    off: float = 10.0
    leaves: float = 0.0

    def check(self) -> None:
        weights = self._weights
        if min(weights) < 0 or sum(weights) <= 0:
            raise UsageError(f"the weights of full, half, none, flicker and leaves are {weights}: give some above 0")
        if min(self.on, self.off) < 1:
            raise UsageError(f"on = {self.on:g}, off = {self.off:g}: a stretch has 1 step or more")

    @property
    def _weights(self) -> tuple[float, ...]:
        return (self.full, self.half, self.none, self.flicker, self.leaves)

    def mask(self, steps: int, worlds: int, draw: np.random.Generator) -> Bool[np.ndarray, "T B"]:
        """Draw when the expert can be seen.

        Raises:
            UsageError: there is no step.
        """
        if steps < 1:
            raise UsageError(f"steps = {steps}: an episode has 1 step or more")
        weights = np.array(self._weights) / sum(self._weights)
        which = draw.choice(5, size=worlds, p=weights)
        step = np.arange(steps)[:, None]
        gone = np.select(
            [which == 0, which == 1, which == 4], [steps, steps // 2, draw.integers(0, steps + 1, worlds)], 0
        )
        seen = step < gone
        if (which == 3).any():
            seen = np.where(which == 3, self._flickers(steps, worlds, draw), seen)
        return seen

    def _flickers(self, steps: int, worlds: int, draw: np.random.Generator) -> Bool[np.ndarray, "T B"]:
        """Draw a Markov chain for each world, begun where it would stand after long."""
        chance = draw.random((steps, worlds))
        seen = np.empty((steps, worlds), bool)
        seen[0] = chance[0] < self.on / (self.on + self.off)
        for t in range(1, steps):
            seen[t] = np.where(seen[t - 1], chance[t] >= 1 / self.on, chance[t] < 1 / self.off)
        return seen


FULL, HALF, NONE = Presence(), Presence(full=0, half=1), Presence(full=0, none=1)
"""The three in which cultural transmission is measured."""
