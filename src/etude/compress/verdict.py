"""The verdict: are the units of a code easier to understand than those of what it codes?

The rule was fixed before anything was looked at. A unit's score is the share of its variance that the best of a few
plain facts foretells on held-out windows (see `predictors`). The units of the code are compared with two other sets:
the coordinates of the activation itself, and those of the activation turned by a random rotation. The code is *easier*
where the median score of its units is above both others by more than `MARGIN`, and both differences stand at `LEVEL`
after Holm's correction for all comparisons that are made; *harder* where it is below both in the same way; otherwise
no difference is shown. Windows are the independent units: intervals are of a bootstrap over the windows that judge,
the same ones for both sides. What was learned and chosen on the others is held as it is.

Such a score is not understanding: a unit that follows the syntax of a whole sentence scores 0, and one that copies
what a tokenizer does scores 1. The sets also differ in how many units they have, and in how much each varies; so the
share of the variance of the whole set that is foretold stands beside the median. A rotation alone cannot change that
share, but for the choice among the facts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Float64, Int

from etude.compress.predictors import FACTS, NOTHING, Judged, judged, shares
from etude.core.seeds import stream
from etude.evals.statistics import Estimate

MARGIN = 0.05
"""How far the median score has to be above, or below, the others' for a verdict: a smaller gap is none to a reader."""

LEVEL = 0.05
"""Greatest chance of a false verdict over all comparisons together."""

RESAMPLES = 2000
"""Of the bootstrap. Its smallest p is 2 / 2001."""

MOST_TURNED = 1024
"""A code of more units that vary is not turned: drawing a rotation takes the cube of their number."""

AGAINST = ("coordinates", "rotation")
"""The sets that a verdict rests on."""

Said = Literal["easier", "harder", "no difference shown"]


def holm(chances: Float[np.ndarray, " K"]) -> Float64[np.ndarray, " K"]:
    """Return p values corrected for their number (Holm 1979): at most as many false ones as one test would have."""
    order = np.argsort(chances, kind="stable")
    steps = np.maximum.accumulate(np.asarray(chances, np.float64)[order] * np.arange(len(chances), 0, -1))
    found = np.empty(len(chances))
    found[order] = np.minimum(steps, 1.0)
    return found


@dataclass(frozen=True, eq=False)
class UnitSet:
    """Units that are compared as a set: drawn once, or several times.

    Attributes:
        draws: what each draw scored; one where nothing is drawn.
        resampled: [S 2] the median score and the share of the whole, mean over draws, in each resample of the windows.
    """

    draws: tuple[Judged, ...]
    resampled: Float64[np.ndarray, "S 2"]

    @property
    def median(self) -> Estimate:
        """The median of the units' scores."""
        return self._estimate(float(np.mean([_median(one.scores) for one in self.draws])), 0)

    @property
    def weighted(self) -> Estimate:
        """The share of the whole set's variance that is foretold."""
        return self._estimate(float(np.mean([one.weighted for one in self.draws])), 1)

    def _estimate(self, mean: float, column: int) -> Estimate:
        return spanned(mean, self.resampled[:, column], len(self.draws[0].errors))

    def to_json(self) -> dict[str, Any]:
        scores = [one.scores for one in self.draws]
        varied = [np.isfinite(one) for one in scores]
        firm = [holm(one.chances()[seen]) < LEVEL for one, seen in zip(self.draws, varied, strict=True)]
        by = np.concatenate([one.by[seen] for one, seen in zip(self.draws, varied, strict=True)])
        return {
            "units": sum(map(len, scores)) // len(scores),
            "draws": len(scores),
            "judged": int(sum(map(np.sum, varied))),
            "predictable": int(sum(map(np.sum, firm))),
            "median": told(self.median),
            "weighted": told(self.weighted),
            "by": {name: int((by == n).sum()) for n, name in enumerate((*FACTS, NOTHING))},
        }


@dataclass(frozen=True)
class Comparison:
    """The units of a code against another set.

    Attributes:
        difference: of the medians; above 0 the code's units are foretold better.
        chance: the two-sided p of no difference, by the bootstrap, for this comparison alone.
    """

    difference: Estimate
    chance: float

    def to_json(self) -> dict[str, Any]:
        return {**told(self.difference), "p": self.chance}


def unit_set(draws: Sequence[Judged], weights: Int[np.ndarray, "S W"]) -> UnitSet:
    """Return a set with its scores in each resample; `weights` says how often each window is in it."""
    each = [_resampled(one, weights) for one in draws]
    return UnitSet(tuple(draws), np.mean(each, 0))


def resamples(windows: int, seed: int) -> Int[np.ndarray, "S W"]:
    """Return how often each of the windows is in each resample."""
    draw = np.random.Generator(np.random.PCG64(seed))
    return draw.multinomial(windows, np.full(windows, 1 / windows), RESAMPLES)


def _resampled(one: Judged, weights: np.ndarray) -> np.ndarray:
    errors, spread = weights @ one.errors, weights @ one.spread
    medians = np.array([_median(row) for row in shares(errors, spread)])
    return np.stack([medians, shares(errors.sum(1), spread.sum(1))], 1)


def _median(scores: np.ndarray) -> float:
    known = scores[np.isfinite(scores)]
    return float(np.median(known)) if len(known) else np.nan


def compare(ours: UnitSet, other: UnitSet) -> Comparison:
    """Return how the median score of a set differs from another's, on the same resamples."""
    each = ours.resampled[:, 0] - other.resampled[:, 0]
    each = each[np.isfinite(each)]
    ends = (1 + np.array([(each <= 0).sum(), (each >= 0).sum()])) / (1 + len(each))
    gap = ours.median.mean - other.median.mean
    return Comparison(spanned(gap, each, ours.median.n), float(min(1.0, 2 * ends.min())))


def spanned(mean: float, resampled: Float[np.ndarray, " S"], n: int) -> Estimate:
    """Return an estimate with the middle 95% of its resamples as interval, and NaN without any."""
    known = resampled[np.isfinite(resampled)]
    if not len(known) or not np.isfinite(mean):
        return Estimate(np.nan, np.nan, np.nan, n)
    low, high = np.quantile(known, (0.025, 0.975))
    return Estimate(mean, float(low), float(high), n)


def told(estimate: Estimate) -> dict[str, Any]:
    """Return an estimate as JSON data, None for what there is not."""
    return {key: None if value != value else value for key, value in estimate.to_json().items()}


def verdict(gaps: Sequence[float | None], chances: Sequence[float]) -> Said:
    """Return the verdict of the rule.

    Args:
        gaps: by how much the median of the code's units is above that of each of `AGAINST`.
        chances: the p of each, corrected for all comparisons that are made, elsewhere too.
    """
    if any(gap is None for gap in gaps) or max(chances) >= LEVEL:
        return "no difference shown"
    known = [gap for gap in gaps if gap is not None]
    return "easier" if min(known) > MARGIN else "harder" if max(known) < -MARGIN else "no difference shown"


def unit_sets(
    units: Float[np.ndarray, "P U"],
    values: Float[np.ndarray, "P D"],
    facts: Mapping[str, Int[np.ndarray, " P"]],
    window: Int[np.ndarray, " P"],
    *,
    turned: bool,
    draws: int,
    seed: int,
) -> dict[str, UnitSet]:
    """Return the sets that are compared: the `units` of the code; the `coordinates` of the activation; `draws` random
    rotations of it (`rotation`); and as controls the units in another order over the tokens (`shuffled`), and, of units
    that are numbers, the code turned by as many rotations, each number first scaled to a variance of 1 (`turned`; of
    `MOST_TURNED` that vary at most).

    Args:
        units: of the code, at each token.
        values: the activation there.
        facts: what is known of the tokens.
        window: the number of each token's window, from 0.
        turned: whether units are numbers.
        draws: rotations.
        seed: of all that is drawn.
    """

    def scored(of: np.ndarray) -> Judged:
        return judged(of, facts, window)

    def rotated(of: np.ndarray, name: str) -> list[Judged]:
        return [scored(of @ rotation(of.shape[1], stream(seed, name, n))) for n in range(draws)]

    draw = np.random.Generator(np.random.PCG64(stream(seed, "shuffle")))
    found = {
        "units": [scored(units)],
        "coordinates": [scored(values)],
        "rotation": rotated(values, "rotation"),
        "shuffled": [scored(units[draw.permutation(len(units))])],
    }
    varied = units[:, np.ptp(units, axis=0) > 0]
    if turned and 0 < varied.shape[1] <= MOST_TURNED:
        found["turned"] = rotated(standard(varied), "turned")
    weights = resamples(len(found["units"][0].errors), stream(seed, "bootstrap"))
    return {name: unit_set(each, weights) for name, each in found.items()}


def rotation(width: int, seed: int) -> Float64[np.ndarray, "D D"]:
    """Return a rotation, or one with a mirror, drawn evenly from all (Mezzadri 2007)."""
    gaussian = np.random.Generator(np.random.PCG64(seed)).normal(size=(width, width))
    q, r = np.linalg.qr(gaussian)
    return q * np.sign(np.diag(r))


def standard(values: Float[np.ndarray, "P U"]) -> Float64[np.ndarray, "P U"]:
    """Return columns of mean 0 and variance 1; those that do not vary are 0."""
    away = values - values.mean(0, dtype=np.float64)
    spread = away.std(0)
    return np.divide(away, spread, out=np.zeros_like(away), where=spread > 0)
