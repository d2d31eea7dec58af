"""What single units tell of whether an expert is there: thresholds chosen in some worlds and judged in others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from etude.core.errors import UsageError
from etude.evals.statistics import Estimate, mean


@dataclass(frozen=True)
class Cuts:
    """One threshold a unit. Above it the expert is held to be there; or below it, where `above` says no.

    Attributes:
        at: the thresholds.
        above: on which side the expert is.
        right: the share of the rows they were chosen on that they get right.
    """

    at: Float[np.ndarray, " D"]
    above: Bool[np.ndarray, " D"]
    right: Float[np.ndarray, " D"]

    def tell(self, x: Float[np.ndarray, "*N D"]) -> Bool[np.ndarray, "*N D"]:
        """Return whether each unit says that the expert is there."""
        return (x > self.at) == self.above


def best_cuts(x: Float[np.ndarray, "N D"], there: Bool[np.ndarray, " N"]) -> Cuts:
    """Return the threshold of each unit, and the side, that tell most rows right.

    All thresholds are tried: between any two neighbouring values, and below the least, which always says the same. Of
    equally good ones the lowest is taken.
    """
    order = np.argsort(x, axis=0, kind="stable")
    values, labels = np.take_along_axis(x, order, axis=0).astype(np.float64), there[order]
    absent_below = np.concatenate([np.zeros((1, x.shape[1])), np.cumsum(~labels, axis=0)])
    present_above = labels.sum(0) - np.concatenate([np.zeros((1, x.shape[1])), np.cumsum(labels, axis=0)])
    right = absent_below + present_above  # [N+1 D], of a threshold below row i, the expert above it
    right[1:-1][values[1:] == values[:-1]] = len(x) / 2  # equal values cannot be told apart: no better than the worst
    best = np.maximum(right, len(x) - right)
    where = best.argmax(0)
    unit = np.arange(x.shape[1])
    at = np.where(
        where > 0, 0.5 * (values[where - 1, unit] + values[np.minimum(where, len(x) - 1), unit]), values[0] - 1
    )
    at = np.where(where == len(x), values[-1], at)
    return Cuts(at, right[where, unit] >= len(x) / 2, best[where, unit] / len(x))


@dataclass(frozen=True)
class Told:
    """How well each unit tells presence in worlds that its threshold was not chosen in.

    Attributes:
        cuts: the thresholds.
        right: the share of the steps of each of M worlds that each unit tells right.
        base: the same of always saying what is more frequent where thresholds were chosen.
    """

    cuts: Cuts
    right: Float[np.ndarray, "M D"]
    base: Float[np.ndarray, " M"]

    @property
    def best(self) -> int:
        """The unit that tells most where thresholds were chosen, so that its accuracy elsewhere is no lucky draw."""
        return int(self.cuts.right.argmax())

    @property
    def accuracy(self) -> list[Estimate]:
        """Of each unit, with an interval over worlds."""
        return [mean(each).as_share() for each in self.right.T]

    @property
    def gain(self) -> list[Estimate]:
        """Of each unit, how much more it tells than the base rate, paired by world."""
        return [mean(each - self.base) for each in self.right.T]


def told(x: Float[np.ndarray, "B T D"], there: Bool[np.ndarray, "B T"]) -> Told:
    """Choose thresholds in the first half of the worlds and judge them in the second.

    Raises:
        UsageError: a half has fewer than two worlds.
    """
    half = len(x) // 2
    if half < 2:
        raise UsageError(f"{len(x)} worlds are too few: 2 to choose thresholds by and 2 to judge them, or more")
    cuts = best_cuts(x[:half].reshape(-1, x.shape[2]), there[:half].ravel())
    usual = there[:half].mean() >= 0.5
    right = (cuts.tell(x[half:]) == there[half:, :, None]).mean(1)
    return Told(cuts, right, (there[half:] == usual).mean(1))


def of_others(there: Bool[np.ndarray, "B T"]) -> Bool[np.ndarray, "B T"]:
    """Return each world's presence as that of the next one in the same half, which its units cannot know of."""
    half = len(there) // 2
    return np.concatenate([np.roll(there[:half], 1, axis=0), np.roll(there[half:], 1, axis=0)])


def rank(values: Float[np.ndarray, " D"], which: int) -> int:
    """Return the rank of one value from the greatest down, 1 the first; equal ones count as greater."""
    return int((values >= values[which]).sum())


def rank_correlation(x: Float[np.ndarray, " D"], y: Float[np.ndarray, " D"]) -> Estimate:
    """Return Spearman's correlation over units with its 95% interval, by Fisher's transformation with the variance of
    Bonett and Wright 2000. Where one side is all alike, or there are fewer than four units, nothing is known of it: the
    interval is all from -1 to 1."""
    from scipy.stats import rankdata

    ranks = [rankdata(each) for each in (x, y)]
    alike = any(np.ptp(each) == 0 for each in ranks)
    found = 0.0 if alike else float(np.corrcoef(*ranks)[0, 1])
    if alike or len(x) < 4:
        return Estimate(found, -1.0, 1.0, len(x))
    middle = np.arctanh(np.clip(found, -1 + 1e-12, 1 - 1e-12))
    reach = 1.96 * np.sqrt((1 + found**2 / 2) / (len(x) - 3))
    return Estimate(found, float(np.tanh(middle - reach)), float(np.tanh(middle + reach)), len(x))
