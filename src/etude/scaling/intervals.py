"""Percentile intervals from draws of a bootstrap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

LOST = 0.05
"""Share of a bootstrap's draws that may give no number: with more, what is left cannot hold 95% of them."""


@dataclass(frozen=True)
class Interval:
    """A number with its 95% interval.

    Attributes:
        estimate: the number, from all of the points.
        low: lower end; nan where there is none, because more than `LOST` of the draws gave no number.
        high: upper end.
        draws: how many draws were made.
        lost: how many of these gave no number.
    """

    estimate: float
    low: float
    high: float
    draws: int
    lost: int

    def holds(self, value: float) -> bool:
        """Return whether a value lies within the interval."""
        return self.low <= value <= self.high

    def to_json(self) -> dict[str, Any]:
        """Return the estimate and its interval, which is null where there is none."""
        return {"estimate": self.estimate, "interval": None if np.isnan(self.low) else [self.low, self.high]}


def interval(estimate: float, draws: Float[np.ndarray, " M"]) -> Interval:
    """Return the 2.5th and 97.5th percentiles of the draws (Efron and Tibshirani 1993, chapter 13).

    Args:
        estimate: the number, from all of the points.
        draws: the same number from each sample of the bootstrap, nan where a sample gave none.
    """
    finite = draws[np.isfinite(draws)]
    enough = len(finite) and len(draws) - len(finite) <= LOST * len(draws)
    low, high = np.percentile(finite, [2.5, 97.5]) if enough else (np.nan, np.nan)
    return Interval(float(estimate), float(low), float(high), len(draws), len(draws) - len(finite))
