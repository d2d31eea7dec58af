"""What a search is: which points of the axes are tried, given the scores of those that were."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from etude.core.family import Member
from etude.studies.sections.axes import Axis, Point

Score = Callable[[Point], float | None]
"""Returns a point's score, the lower the better, or None where it is not known yet."""


@dataclass(frozen=True)
class Search(Member):
    """Base of the family. A search is asked again after every answer, from the beginning, and must ask for the same
    points in the same order each time, as far as the scores are known: so a sweep that was killed goes on.

    Attributes:
        looks_ahead: whether all its points are known before any score is.
    """

    looks_ahead: ClassVar[bool] = True

    @abstractmethod
    def points(self, axes: Sequence[Axis], score: Score) -> list[Point]:
        """Return every point that is wanted as far as the scores tell, none of them twice.

        Raises:
            UsageError: the axes do not suit the search.
        """
