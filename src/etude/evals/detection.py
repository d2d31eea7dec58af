"""How well scores tell two kinds of text apart, with intervals: the area under the curve, shares and their differences,
and calibration."""

from __future__ import annotations

from typing import Any

import numpy as np

from etude.evals.statistics import Estimate

Z = 1.959963984540054
"""Of a 95% interval."""

BINS = 10
"""Of probability, in a calibration."""


def auc(scores: np.ndarray, positive: np.ndarray) -> Estimate:
    """Return the area under the receiver operating characteristic: the chance that a positive has a higher score than a
    negative, ties counted half. The variance is that of DeLong et al. 1988, by midranks (Sun and Xu 2014), and the
    interval is laid on the logit so that it stays between 0 and 1 (Pepe 2003, section 5.2). Where the kinds are apart
    altogether that variance is 0, and the far end is that of a share of k in k (Clopper and Pearson 1934), k the
    smaller number of the two.

    Args:
        scores: [N] finite.
        positive: [N] which are positive.

    Raises:
        ValueError: there are none of one kind.
    """
    from scipy.stats import rankdata  # here, because recipes are read without it

    scores, positive = np.asarray(scores, np.float64), np.asarray(positive, bool)
    m, n = int(positive.sum()), int((~positive).sum())
    if not m or not n:
        raise ValueError("an area under a curve needs both kinds")
    ranks, above, below = rankdata(scores), rankdata(scores[positive]), rankdata(scores[~positive])
    of_positive = (ranks[positive] - above) / n
    of_negative = 1 - (ranks[~positive] - below) / m
    area = float(of_positive.mean())
    if area in (0.0, 1.0):
        end = 0.025 ** (1 / min(m, n))
        return Estimate(area, end, 1.0, m + n) if area else Estimate(area, 0.0, 1 - end, m + n)
    error = np.sqrt(_variance(of_positive) / m + _variance(of_negative) / n)
    centre, reach = np.log(area / (1 - area)), Z * error / (area * (1 - area))
    low, high = (float(1 / (1 + np.exp(-end))) for end in (centre - reach, centre + reach))
    return Estimate(area, low, high, m + n)


def _variance(values: np.ndarray) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else 0.25  # of one, the most that a share can have


def share(count: int, of: int, z: float = Z) -> Estimate:
    """Return a share with Wilson's interval (1927), which is of use for few, and for none or all of them.

    Raises:
        ValueError: it is of nothing.
    """
    if of < 1:
        raise ValueError("a share of nothing")
    p = count / of
    centre = (p + z * z / (2 * of)) / (1 + z * z / of)
    reach = z / (1 + z * z / of) * np.sqrt(p * (1 - p) / of + z * z / (4 * of * of))
    return Estimate(p, min(p, float(centre - reach)), max(p, float(centre + reach)), of)


def difference(a: tuple[int, int], b: tuple[int, int], z: float = Z) -> Estimate:
    """Return the share of `a` less that of `b`, each a count and of how many, with an interval made of both Wilson
    intervals (Newcombe 1998, method 10)."""
    one, other = share(*a, z), share(*b, z)
    apart = one.mean - other.mean
    low = apart - float(np.hypot(one.mean - one.low, other.high - other.mean))
    high = apart + float(np.hypot(one.high - one.mean, other.mean - other.low))
    return Estimate(apart, low, high, one.n + other.n)


def calibration(chances: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    """Return how the probabilities of being positive agree with how many are: the expected calibration error over ten
    bins of equal width (Guo et al. 2017, section 2, for the probability of one class), the Brier score beside that of
    the share of positives, and each bin's mean probability, share of positives and number.

    Args:
        chances: [N] from 0 to 1.
        positive: [N] which are positive.
        weights: [N] how much each counts.
    """
    positive, weights = np.asarray(positive, np.float64), np.asarray(weights, np.float64) / np.sum(weights)
    bins = np.minimum((chances * BINS).astype(int), BINS - 1)
    table, error = [], 0.0
    for number in range(BINS):
        at = bins == number
        if weight := float(weights[at].sum()):
            said, found = (float((weights[at] * values[at]).sum() / weight) for values in (chances, positive))
            error += weight * abs(said - found)
            table.append({"probability": said, "share": found, "n": int(at.sum())})
    base = float((weights * positive).sum())
    brier = float((weights * (chances - positive) ** 2).sum())
    return {"error": error, "brier": brier, "brier_of_base_rate": base * (1 - base), "bins": table}
