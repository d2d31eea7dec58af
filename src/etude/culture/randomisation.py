"""Domain randomisation: settings that differ from update to update, within boundaries that may move by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from etude.core.errors import UsageError
from etude.core.spec import Spec
from etude.core.within import Path

How = Literal["adr", "plain"]


@dataclass(frozen=True)
class Range(Spec):
    """A number of the recipe that is drawn anew for each update.

    Attributes:
        field: its dotted path in the recipe, as in `setting.world.share` or `expert.wait`.
        first: the boundary at the start, from which the other end of the range never moves.
        last: the farthest that the boundary may move; plain randomisation has it from the start.
        step: how far it moves at once.
    """

    field: str = "setting.world.share"
    first: float = 0.0
    last: float = 0.2
    step: float = 0.05

    def check(self) -> None:
        if self.first == self.last or self.step <= 0:
            raise UsageError(
                f"the range of {self.field} goes from {self.first:g} to {self.last:g} by {self.step:g}: give two ends"
                " and a step above 0"
            )

    @property
    def path(self) -> Path:
        return tuple(self.field.replace("-", "_").split("."))

    def moved(self, boundary: float, outwards: bool) -> float:
        """Return the boundary after a step, never past either end."""
        way = (1 if self.last > self.first else -1) * (self.step if outwards else -self.step)
        low, high = sorted((self.first, self.last))
        return round(min(high, max(low, boundary + way)), 9)


@dataclass(frozen=True)
class Randomise(Spec):
    """Draw numbers of the recipe anew for each update, evenly between their first values and their boundaries.

    Automatic domain randomisation (OpenAI 2019, arXiv 1910.07113, algorithm 1; arXiv 2203.00715, section 3.4) tries one
    boundary in turn every so many updates: the agent plays there with its expert all the time, half of it and never.
    Cultural transmission above a threshold moves the boundary out, below another one it moves it in.

    Attributes:
        how: `adr`, or `plain`, whose boundaries are at their last values from the start.
        ranges: what is drawn.
        every: updates between trials.
        worlds: of a trial, with each presence of the expert.
        expand: cultural transmission from which a boundary moves out.
        contract: below which it moves in.
    """

    how: How = "adr"
    ranges: tuple[Range, ...] = (Range(),)
    every: int = 5
    worlds: int = 64
    expand: float = 0.5
    contract: float = 0.3

    def check(self) -> None:
        if not self.ranges or self.every < 1 or self.worlds < 2 or self.contract > self.expand:
            raise UsageError(
                f"{len(self.ranges)} ranges, every = {self.every}, worlds = {self.worlds}, contract ="
                f" {self.contract:g}, expand = {self.expand:g}: give a range, 1 update and 2 worlds or more, and"
                " contract no higher than expand"
            )

    def begin(self) -> tuple[float, ...]:
        """Return the boundaries at the start."""
        return tuple(each.last if self.how == "plain" else each.first for each in self.ranges)

    def sample(self, boundaries: tuple[float, ...], draw: np.random.Generator) -> Mapping[Path, float]:
        """Draw what an update has."""
        shares = draw.random(len(self.ranges))
        ends = zip(self.ranges, boundaries, shares, strict=True)
        return {each.path: each.first + float(share) * (end - each.first) for each, end, share in ends}

    def at_boundary(
        self, number: int, boundaries: tuple[float, ...], draw: np.random.Generator
    ) -> Mapping[Path, float]:
        """Draw what a trial of one boundary has: that number stands at it, the others are drawn."""
        return {**self.sample(boundaries, draw), self.ranges[number].path: boundaries[number]}

    def due(self, update: int) -> int | None:
        """Return which boundary is tried before an update, if one is."""
        if self.how == "plain" or update % self.every:
            return None
        return update // self.every % len(self.ranges)

    def after(self, number: int, boundaries: tuple[float, ...], transmission: float) -> tuple[float, ...]:
        """Return the boundaries after a trial of one."""
        found = list(boundaries)
        if transmission >= self.expand or transmission < self.contract:
            found[number] = self.ranges[number].moved(found[number], outwards=transmission >= self.expand)
        return tuple(found)
