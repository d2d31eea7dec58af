"""Every combination."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from etude.studies.search.base import Score, Search
from etude.studies.sections.axes import Axis, Point


@dataclass(frozen=True)
class Grid(Search):
    """Every combination of the axes' values. It has no fields: the axes say it all."""

    def points(self, axes: Sequence[Axis], score: Score) -> list[Point]:
        return list(itertools.product(*(axis.spelled() for axis in axes)))
