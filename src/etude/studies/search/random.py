"""Points drawn at random."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from etude.core.errors import UsageError
from etude.core.seeds import stream
from etude.studies.search.base import Score, Search
from etude.studies.sections.axes import Axis, Point

TRIES = 1000
"""Draws for each point that is wanted. More are needed only where a narrow range has fewer numbers of four figures."""


@dataclass(frozen=True)
class Random(Search):
    """Points drawn at random, each axis by itself: uniformly, or uniformly in the logarithm of a `:log` range.

    It beats a grid of the same size where few of the axes matter (Bergstra and Bengio 2012). More points from the same
    seed contain the fewer, so that a sweep is widened and not begun again.

    Attributes:
        n: how many points, all different.
        seed: of the drawing.
    """

    n: int = 20
    seed: int = 0

    def check(self) -> None:
        if self.n < 1:
            raise UsageError(f"n = {self.n} points are too few: draw 1 or more")

    def points(self, axes: Sequence[Axis], score: Score) -> list[Point]:
        every = math.prod(axis.count() for axis in axes)
        if self.n > every:
            raise UsageError(
                f"n = {self.n} points are wanted and the axes have {every:.0f}; draw fewer, or take a grid"
            )
        numbers = np.random.default_rng(stream(self.seed, "search"))
        found: dict[Point, None] = {}
        for _ in range(TRIES * self.n):  # row by row, so that fewer points are the first of more
            shares = numbers.random(len(axes))
            found[tuple(axis.at(float(share)) for axis, share in zip(axes, shares, strict=True))] = None
            if len(found) == self.n:
                return list(found)
        raise UsageError(
            f"n = {self.n} points are wanted and only {len(found)} came that differ, numbers being drawn in four"
            " figures; draw fewer, or widen the axes"
        )
