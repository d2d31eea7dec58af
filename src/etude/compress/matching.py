"""Codes of one activation matched across seeds: did another fit find the same units?

Units are paired one to one so that the sum of their absolute correlations over the tokens is greatest (the assignment
problem, solved by scipy). Pairs are chosen after looking, so that codes which share nothing are matched above 0 too,
and codes of one space in any other axes well above it. Both are measured beside: the second code in another order over
the tokens (`shuffled`), and the first against itself turned by a random rotation (`rotated`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int
from scipy.optimize import linear_sum_assignment

from etude.compress.verdict import MOST_TURNED, rotation, standard
from etude.core.seeds import stream


@dataclass(frozen=True, eq=False)
class Matched:
    """Units of two codes in pairs.

    Attributes:
        pairs: [K 2] numbers of the units of each, from the best pair down.
        correlation: [K] of the pairs, with its sign.
    """

    pairs: Int[np.ndarray, "K 2"]
    correlation: Float64[np.ndarray, " K"]

    @property
    def mean(self) -> float:
        """Mean absolute correlation of the pairs; NaN where there are none."""
        return float(np.abs(self.correlation).mean()) if len(self.correlation) else float("nan")


def matched(one: Float[np.ndarray, "P U"], other: Float[np.ndarray, "P S"]) -> Matched:
    """Return the pairs of units whose absolute correlations have the greatest sum. Units that do not vary are left out;
    of codes of two sizes, so are some of the larger.

    Args:
        one: the units of one code at each token.
        other: of another, at the same tokens.
    """
    left, right = (np.flatnonzero(np.ptp(code, axis=0) > 0) for code in (one, other))
    between = standard(one[:, left]).T @ standard(other[:, right]) / len(one)
    rows, columns = linear_sum_assignment(-np.abs(between))
    found = between[rows, columns]
    order = np.argsort(-np.abs(found), kind="stable")
    return Matched(np.stack([left[rows], right[columns]], 1)[order], found[order])


def overlap(one: Float[np.ndarray, "P U"], other: Float[np.ndarray, "P S"]) -> float:
    """Return how much of the smaller code can be read linearly from the other: the mean squared canonical correlation.
    1 where its space is within the other's, whatever the axes; NaN where a code does not vary."""
    bases = [_basis(code) for code in (one, other)]
    shared = min(basis.shape[1] for basis in bases)
    return float(((bases[0].T @ bases[1]) ** 2).sum() / shared) if shared else float("nan")


def _basis(code: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis of what a code's units span over the tokens, about their means."""
    u, s, _ = np.linalg.svd(standard(code), full_matrices=False)
    return u[:, s > 1e-6 * (s[0] if len(s) else 0.0)]


def agreement(
    one: Float[np.ndarray, "P U"], other: Float[np.ndarray, "P S"], *, turned: bool, draws: int, seed: int
) -> dict[str, Any]:
    """Return how well two codes match, beside what matching alone gives.

    Args:
        one: the units of one code at each token.
        other: of another, at the same tokens.
        turned: whether units are numbers, which a rotation can mix; more than `MOST_TURNED` are not.
        draws: of each baseline, whose means are told.
        seed: of the draws.

    Returns:
        `matched`, the mean absolute correlation; `overlap`; `shuffled` and, where `turned`, `rotated`; and the
        `pairs`, each with its two units and its correlation.
    """
    found = matched(one, other)
    scaled = standard(one[:, np.ptp(one, axis=0) > 0])
    shuffle, turn = [], []
    for n in range(draws):
        draw = np.random.Generator(np.random.PCG64(stream(seed, "shuffle", n)))
        shuffle.append(matched(one, other[draw.permutation(len(other))]).mean)
        if turned and 0 < scaled.shape[1] <= MOST_TURNED:
            turn.append(matched(scaled, scaled @ rotation(scaled.shape[1], stream(seed, "turn", n))).mean)
    pairs = zip(found.pairs.tolist(), found.correlation.tolist(), strict=True)
    numbers = {"matched": found.mean, "overlap": overlap(one, other), "shuffled": np.mean(shuffle)}
    numbers |= {"rotated": np.mean(turn)} if turn else {}
    known = {name: None if value != value else float(value) for name, value in numbers.items()}
    return {"rotated": None, **known, "pairs": [{"units": units, "correlation": r} for units, r in pairs]}
