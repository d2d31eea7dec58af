"""How far plain facts about a token foretell what a unit does there, on text that nothing was learned from.

The facts are such as a person would name: which token it is, which stood before it, where it stands, of which class it
is. Each guesses a unit by the mean of the unit where the fact was the same. Which fact is best is chosen on one part of
the windows and judged on another, so that the choice among several is no advantage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int
from scipy.sparse import csr_array
from scipy.special import stdtr

from etude.core.errors import UsageError
from etude.evals.token_classes import TokenClasses

FACTS = ("token", "previous_token", "position", "class")
"""What a unit may be foretold by."""

NOTHING = "nothing"
"""The mean, whatever the token: chosen where no fact does better."""

PSEUDO = 2.0
"""Counts by which a kind's mean is drawn towards the mean of all: a kind that was seen once says little."""

LEAST_WINDOWS = 32
"""Fewer leave less than 8 to judge by."""

AT_ONCE = 256
"""Units that are judged at once, for the memory."""


class Split(NamedTuple):
    """Which windows the facts' means are learned from, which choose among the facts, and which judge.

    Attributes:
        fit: the first half.
        choose: the next quarter.
        judge: the last.
    """

    fit: Bool[np.ndarray, " N"]
    choose: Bool[np.ndarray, " N"]
    judge: Bool[np.ndarray, " N"]


def split_of(windows: int) -> Split:
    """Return the parts of so many windows, in stretches, so that few documents are in two of them.

    Raises:
        UsageError: there are too few.
    """
    if windows < LEAST_WINDOWS:
        raise UsageError(
            f"{windows} windows are too few: a quarter of them judges what foretells a unit, and {LEAST_WINDOWS} are"
            " needed; raise evaluate_tokens"
        )
    part = np.arange(windows) * 4 // windows
    return Split(part < 2, part == 2, part == 3)


def facts_of(tokens: Int[np.ndarray, "N T"], classes: TokenClasses) -> dict[str, Int[np.ndarray, "N T"]]:
    """Return each of `FACTS` at each token; before the first of a window stands token -1."""
    before = np.concatenate([np.full_like(tokens[:, :1], -1), tokens[:, :-1]], 1)
    position = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
    return dict(zip(FACTS, (tokens, before, position, classes.of[tokens]), strict=True))


def guessed(
    kinds: Int[np.ndarray, " P"], values: Float[np.ndarray, "P U"], asked: Int[np.ndarray, " Q"]
) -> Float64[np.ndarray, "Q U"]:
    """Return what a fact guesses of units: their mean where it was the same, drawn towards the mean of all by `PSEUDO`
    counts; the mean of all where it never was.

    Args:
        kinds: the fact at the rows that are learned from.
        values: the units there.
        asked: the fact at the rows that are guessed.
    """
    overall = values.mean(0, dtype=np.float64)
    seen, where = np.unique(kinds, return_inverse=True)
    member = csr_array((np.ones(len(where)), (where, np.arange(len(where)))), shape=(len(seen), len(where)))
    counts = np.bincount(where)[:, None]
    away = member @ (values - overall) / (counts + PSEUDO)
    at = np.clip(np.searchsorted(seen, asked), 0, len(seen) - 1)
    return overall + np.where((seen[at] == asked)[:, None], away[at], 0.0)


@dataclass(frozen=True, eq=False)
class Judged:
    """How well units are foretold, window by window. W counts the windows that judge.

    Attributes:
        errors: [W U] summed squares of what the chosen fact leaves of each unit.
        spread: [W U] summed squares about the mean of the windows that were learned from.
        by: [U] number of the chosen fact in `FACTS`; one more is `NOTHING`.
    """

    errors: Float64[np.ndarray, "W U"]
    spread: Float64[np.ndarray, "W U"]
    by: Int[np.ndarray, " U"]

    @property
    def scores(self) -> Float64[np.ndarray, " U"]:
        """R²: the share of each unit that is foretold; NaN where it does not vary in the windows that judge."""
        return shares(self.errors.sum(0), self.spread.sum(0))

    @property
    def weighted(self) -> float:
        """The share of all units' variance together that is foretold."""
        return float(shares(self.errors.sum(), self.spread.sum()))

    def chances(self) -> Float64[np.ndarray, " U"]:
        """Return, for each unit, how likely so great a gain over the mean would be if the fact told nothing of it: the
        one-sided p of Student's t over windows, which are taken as independent. 1 where nothing was chosen."""
        gain = self.spread - self.errors
        windows = len(gain)
        error = gain.std(0, ddof=1) / np.sqrt(windows)
        t = np.divide(gain.mean(0), error, out=np.zeros(gain.shape[1]), where=error > 0)
        return np.where(error > 0, stdtr(windows - 1, -t), np.where(gain.mean(0) > 0, 0.0, 1.0))


def shares(errors: np.ndarray | float, spread: np.ndarray | float) -> np.ndarray:
    """Return one less errors over spread, NaN where there is no spread."""
    errors, spread = np.asarray(errors, np.float64), np.asarray(spread, np.float64)
    return 1 - np.divide(errors, spread, out=np.full(spread.shape, np.nan), where=spread > 0)


def judged(
    values: Float[np.ndarray, "P U"], facts: Mapping[str, Int[np.ndarray, " P"]], window: Int[np.ndarray, " P"]
) -> Judged:
    """Learn what each fact foretells of each unit, choose the best fact for each, and judge it, on three parts of the
    windows.

    Args:
        values: what each unit does at each token, whatever its scale.
        facts: at the same tokens.
        window: the number of each token's window, from 0.

    Raises:
        UsageError: there are fewer windows than `LEAST_WINDOWS`.
    """
    split = split_of(int(window.max()) + 1 if len(window) else 0)
    parts = [_judged(piece, facts, window, split) for piece in _pieces(values)]
    errors, spread = (np.concatenate([getattr(p, name) for p in parts], 1) for name in ("errors", "spread"))
    return Judged(errors, spread, np.concatenate([part.by for part in parts]))


def _pieces(values: np.ndarray) -> list[np.ndarray]:
    return [values[:, at : at + AT_ONCE].astype(np.float64) for at in range(0, values.shape[1], AT_ONCE)]


def _judged(values: np.ndarray, facts: Mapping[str, np.ndarray], window: np.ndarray, split: Split) -> Judged:
    fit, choose, judge = (mask[window] for mask in split)
    dull = values[fit].mean(0)
    plain = ((values[choose] - dull) ** 2).sum(0)
    left = [((values[choose] - guessed(fact[fit], values[fit], fact[choose])) ** 2).sum(0) for fact in facts.values()]
    best = np.argmin([*left, plain], 0)
    rest = values[judge] - dull
    errors = rest**2
    for number, fact in enumerate(facts.values()):
        units = best == number
        if units.any():
            guess = guessed(fact[fit], values[fit][:, units], fact[judge])
            errors[:, units] = (values[judge][:, units] - guess) ** 2
    return Judged(_by_window(errors, window[judge]), _by_window(rest**2, window[judge]), best)


def _by_window(rows: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Return the sum over each window's rows."""
    starts = np.flatnonzero(np.diff(window, prepend=-1))
    return np.add.reduceat(rows, starts, 0)
