"""Any measurement of chunks as a curve over how much of a chunk the training text has: over those with r at most alpha
(Borgeaud et al. 2021, section 2.6). A measurement is a sum and a count for each chunk, as nats and bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num

from etude.core.errors import UsageError
from etude.evals.statistics import Estimate, ratio

FEWEST = 10
"""Documents from which an interval is taken over documents. Of fewer it is over chunks, as if each stood alone."""


class Units(NamedTuple):
    """What an interval takes as independent.

    Attributes:
        of: [C] the unit of each chunk, from 0.
        name: `documents` or `chunks`.
    """

    of: Int[np.ndarray, " C"]
    name: str


def units_of(documents: Int[np.ndarray, " C"]) -> Units:
    """Return the documents of chunks as units, or, where they are too few for an interval, the chunks themselves."""
    _, numbers = np.unique(documents, return_inverse=True)
    if len(numbers) and numbers.max() + 1 >= FEWEST:
        return Units(numbers, "documents")
    return Units(np.arange(len(numbers)), "chunks")


def share_curve(r: Float[np.ndarray, " C"], units: Units, alphas: Sequence[float]) -> list[Estimate]:
    """Return the share of chunks with r at most each alpha, with intervals that end where a share does."""
    every = np.ones(len(r))
    return [ratio(*_by_unit(units, (r <= alpha) * every, every)).as_share() for alpha in alphas]


def curve(
    r: Float[np.ndarray, " C"],
    sums: Num[np.ndarray, " C"],
    counts: Num[np.ndarray, " C"],
    units: Units,
    alphas: Sequence[float],
) -> list[Estimate | None]:
    """Return the sum over the count of the chunks with r at most each alpha; None where they count nothing.

    Args:
        r: share of each chunk that the training text has.
        sums: of what is measured, as nats.
        counts: of what it is measured per, as bytes.
        units: what the interval is over.
        alphas: greatest shares.

    Raises:
        UsageError: the measurement is of other chunks.
    """
    check_same(r, sums, counts)
    found: list[Estimate | None] = []
    for alpha in alphas:
        kept = r <= alpha
        parts = _by_unit(units, sums * kept, counts * kept)
        found.append(ratio(*parts) if parts[1].any() else None)
    return found


def flattered(
    r: Float[np.ndarray, " C"],
    sums: Num[np.ndarray, " C"],
    counts: Num[np.ndarray, " C"],
    units: Units,
    alpha: float,
) -> Estimate | None:
    """Return how far the measurement over chunks with r at most alpha lies above that over all; None where the former
    count nothing.

    Both are of the same units: the interval is the delta method's for the difference of the two ratios.
    """
    check_same(r, sums, counts)
    kept = r <= alpha
    part, whole = _by_unit(units, sums * kept, counts * kept), _by_unit(units, sums, counts)
    if not part[1].any():
        return None
    values = [x.sum() / n.sum() for x, n in (part, whole)]
    pulls = [(x - value * n) / n.sum() for (x, n), value in zip((part, whole), values, strict=True)]
    used, difference = whole[1] > 0, float(values[0] - values[1])
    n = int(used.sum())
    if n < 2:
        return Estimate(difference, difference, difference, n)
    from scipy.special import stdtrit

    error = float(np.sqrt(n / (n - 1) * np.sum(np.square(pulls[0] - pulls[1]))))
    reach = float(stdtrit(n - 1, 0.975)) * error
    return Estimate(difference, difference - reach, difference + reach, n)


def check_same(r: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> None:
    """Raise UsageError where measurements are not of the chunks that were searched for."""
    if not len(r) == len(sums) == len(counts):
        raise UsageError(
            f"{len(sums)} sums and {len(counts)} counts are not of the {len(r)} chunks that were searched for: measure"
            " chunks of the same text, of the same size"
        )


def sums_within(
    values: Num[np.ndarray, " T"], first: Int[np.ndarray, " C"], stop: Int[np.ndarray, " C"]
) -> Float[np.ndarray, " C"]:
    """Return the sum of what was measured of each token over the tokens of each chunk.

    Args:
        values: of each token of the evaluation text.
        first: of each chunk.
        stop: behind its last.
    """
    before = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    return before[stop] - before[first]


def _by_unit(
    units: Units, sums: Num[np.ndarray, " C"], counts: Num[np.ndarray, " C"]
) -> tuple[Float[np.ndarray, " U"], Float[np.ndarray, " U"]]:
    return np.bincount(units.of, sums), np.bincount(units.of, counts).astype(np.float64)
