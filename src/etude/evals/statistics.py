"""Estimates with intervals: a mean over windows of text, and a paired difference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval.

    Attributes:
        mean: the estimate.
        low: lower end.
        high: upper end.
        n: how many independent units (windows) it rests on. One unit says nothing of its spread, and the interval is
            then the estimate alone: it excludes nothing.
    """

    mean: float
    low: float
    high: float
    n: int

    def to_json(self) -> dict[str, Any]:
        return {"mean": self.mean, "low": self.low, "high": self.high, "n": self.n}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the estimate that `to_json` wrote; other keys of the row that it stands in are passed over."""
        return cls(data["mean"], data["low"], data["high"], data["n"])

    def scaled(self, factor: float) -> Estimate:
        """Return the estimate in another unit."""
        low, high = sorted((self.low * factor, self.high * factor))
        return Estimate(self.mean * factor, low, high, self.n)

    def as_share(self) -> Estimate:
        """Return the estimate of a share, with an interval that ends where a share does."""
        return Estimate(self.mean, max(0.0, self.low), min(1.0, self.high), self.n)

    def above(self, bound: float) -> bool:
        """Return whether the whole interval lies above a bound."""
        return self.n > 1 and self.low > bound

    def below(self, bound: float) -> bool:
        """Return whether the whole interval lies below a bound."""
        return self.n > 1 and self.high < bound

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.above(0) or self.below(0)


def ratio(sums: np.ndarray, counts: np.ndarray) -> Estimate:
    """Return the mean per token from sums over windows, with an interval over windows.

    Tokens of one window depend on each other; windows are taken as independent, which neighbouring windows of one
    document are only nearly. The standard error is the delta method's for a ratio of means (Cochran 1977, section
    2.11), and the interval Student's, so that a few windows do not look like many.

    Args:
        sums: [N] sum of the quantity over each window's tokens.
        counts: [N] tokens of each window. Windows without any are left out.

    Raises:
        ValueError: no window has a token.
    """
    sums, counts = np.asarray(sums, np.float64), np.asarray(counts, np.float64)
    used = counts > 0
    sums, counts = sums[used], counts[used]
    n = len(sums)
    if not n:
        raise ValueError("a mean over no tokens at all")
    mean = float(sums.sum() / counts.sum())
    if n < 2:
        return Estimate(mean, mean, mean, n)
    residual = sums - mean * counts
    from scipy.special import stdtrit  # here, because studies import this module to plan, and plans are quick

    error = float(np.sqrt(np.mean(residual**2) / (n - 1)) / counts.mean())
    reach = float(stdtrit(n - 1, 0.975)) * error
    return Estimate(mean, mean - reach, mean + reach, n)


def paired(a: np.ndarray, b: np.ndarray, counts: np.ndarray) -> Estimate:
    """Return the mean per token of `a - b` on the same windows, which is far sharper than two separate intervals."""
    return ratio(np.asarray(a, np.float64) - np.asarray(b, np.float64), counts)


def mean(values: np.ndarray) -> Estimate:
    """Return the mean of independent values with its interval."""
    values = np.asarray(values, np.float64)
    return ratio(values, np.ones_like(values))
