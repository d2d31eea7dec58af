"""Linear probes: what of the text can be read from activations by a linear map, beside what a probe finds in labels
that are not there (Hewitt and Liang 2019, "Designing and Interpreting Probes with Control Tasks", section 2).

A probe that reads a fact well may have learned it by itself: from which token stands there it can look the answer up.
The control labels measure that. They are drawn once for each type of token, so that nothing but the token tells them,
and a probe's selectivity is how much better it does on the true labels.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.core.seeds import stream
from etude.core.site import Site
from etude.evals.recipes import Probe
from etude.evals.recording import Recording, Rows
from etude.evals.statistics import Estimate, paired, ratio
from etude.text.data import TextData
from etude.text.tokenizers.live import Tokenizer

Fact = Callable[[Rows, Tokenizer], np.ndarray]
"""From the rows of a recording to a label of each [N]: a whole number, -1 where there is none, or a float."""

HELD_OUT = 5
"""The share of windows that is held out: one of so many."""

LEAST_WINDOWS = 2 * HELD_OUT
"""Fewer leave no two windows to judge by, and one has no interval."""

MOST_STEPS = 1000
"""Of the solver, for classes; whether they were enough is told."""


@dataclass(frozen=True)
class Labelled:
    """Activations with what is to be read from them.

    Attributes:
        x: [N D] activations.
        y: [N] labels: whole numbers from 0 and truth values are classes, floats are numbers.
        tokens: [N] the token at each row, of whose type control labels are a function.
        windows: [N] the window of each row. Rows of one window depend on each other.
    """

    x: Float[np.ndarray, "N D"]
    y: Shaped[np.ndarray, " N"]
    tokens: Int[np.ndarray, " N"]
    windows: Int[np.ndarray, " N"]

    @property
    def of_classes(self) -> bool:
        """Whether the labels are classes."""
        return not np.issubdtype(self.y.dtype, np.floating)


class Probed(NamedTuple):
    """How well a probe reads, on rows that it was not fitted to: the share of classes that it gets right; or of numbers
    R², one less its squared errors over those of the training rows' mean. All have 95% intervals over windows; of R²,
    the errors of the mean are taken as known.

    Attributes:
        score: on the labels.
        majority: of saying the most frequent class of the training rows, or their mean, whatever is read.
        control: of a probe fitted to labels that are drawn for each type of token, on such labels.
        shuffled: of a probe fitted to the labels in another order, on the true ones.
        selectivity: score - control, paired by window.
        settled: whether all fits ended before `MOST_STEPS`.
    """

    score: Estimate
    majority: Estimate
    control: Estimate
    shuffled: Estimate
    selectivity: Estimate
    settled: bool


def probe(train: Labelled, test: Labelled, *, seed: int = 0, penalty: float = 1.0) -> Probed:
    """Fit linear probes to some windows and judge them on others: logistic regression for classes, ridge regression for
    numbers, on activations of mean 0 and variance 1.

    Control labels are drawn from the labels of the training rows, so that they are as frequent.

    Args:
        train: what the probes are fitted to.
        test: what they are judged on: other windows.
        seed: of control and shuffled labels.
        penalty: of the weights' squares: scikit-learn's `alpha`, and its 1 / `C`.

    Raises:
        UsageError: a window is on both sides, a side is empty, labels are all alike or neither classes nor numbers, an
            activation is not finite, or the penalty is not above 0.
    """
    if penalty <= 0:
        raise UsageError(f"penalty = {penalty} is not above 0; 1 is usual")
    _require_sides(train, test)
    draw = np.random.Generator(np.random.PCG64(seed))
    of_type = draw.choice(train.y, 1 + int(max(train.tokens.max(), test.tokens.max())))
    control = [replace(side, y=of_type[side.tokens]) for side in (train, test)]
    shuffled = replace(train, y=draw.permutation(train.y))
    rows = {"majority": _gained(_dullest(train), train, test)}
    settled = True
    for name, to, on in (("score", train, test), ("control", *control), ("shuffled", shuffled, test)):
        guess, ended = _guesses(to, on.x, penalty)
        rows[name], settled = _gained(guess, to, on), settled and ended
    sums, counts = {name: _sums(each, test) for name, each in rows.items()}, _sums(np.ones(len(test.y)), test)
    estimates = {name: ratio(each, counts) for name, each in sums.items()}
    return Probed(**estimates, selectivity=paired(sums["score"], sums["control"], counts), settled=settled)


def _require_sides(train: Labelled, test: Labelled) -> None:
    if not len(train.y) or not len(test.y):
        raise UsageError(f"{len(train.y)} rows to fit to and {len(test.y)} to judge by: a probe needs some of both")
    both = np.intersect1d(train.windows, test.windows)
    if len(both):
        raise UsageError(f"window {both[0]} is both fitted to and held out: split by windows, not by rows")
    for side in (train, test):
        _require_sound(side)
    if train.of_classes != test.of_classes:
        raise UsageError("labels are classes on one side and numbers on the other: give both as one or the other")
    if _alike(train.y):
        raise UsageError(f"every row has the label {train.y[0]}: choose a target that varies, or more tokens")


def _require_sound(side: Labelled) -> None:
    kind = side.y.dtype.kind
    if kind not in "biuf" or (kind == "i" and side.y.min() < 0):
        raise UsageError(f"labels such as {min(side.y)!r} are no classes: give whole numbers from 0, or floats")
    if not np.isfinite(side.x).all() or not np.isfinite(side.y).all():
        raise UsageError("an activation or a label is not finite: leave such rows out")


def _alike(labels: Shaped[np.ndarray, " N"]) -> bool:
    return bool((labels == labels[0]).all())


def _guesses(train: Labelled, x: Float[np.ndarray, "N D"], penalty: float) -> tuple[Shaped[np.ndarray, "*N"], bool]:
    """Return what a probe says of rows, and whether its fit settled."""
    if _alike(train.y):  # as control labels can be, where there are few types
        return _dullest(train), True
    kind = LogisticRegression(C=1 / penalty, max_iter=MOST_STEPS) if train.of_classes else Ridge(alpha=penalty)
    fitted = make_pipeline(StandardScaler(), kind)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ConvergenceWarning)
        fitted.fit(train.x, train.y)
    other = [one for one in said if not issubclass(one.category, ConvergenceWarning)]
    for one in other:
        warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    return np.asarray(fitted.predict(x)), len(other) == len(said)


def _dullest(train: Labelled) -> Shaped[np.ndarray, ""]:
    """Return the best guess for one who sees nothing."""
    return np.asarray(most_frequent(train.y, 1)[0] if train.of_classes else train.y.mean())


def _gained(guess: Shaped[np.ndarray, "*N"], train: Labelled, test: Labelled) -> Float[np.ndarray, " N"]:
    """Return what each row adds to the score: 1 where a class is right, or numbers whose mean is R²."""
    if test.of_classes:
        return (test.y == guess).astype(np.float64)
    return 1 - (test.y - guess) ** 2 / (np.mean((test.y - train.y.mean()) ** 2) or 1.0)


def _sums(rows: Float[np.ndarray, " N"], test: Labelled) -> Float[np.ndarray, " M"]:
    """Return the sum over each window's rows."""
    return np.bincount(np.unique(test.windows, return_inverse=True)[1], rows)


# What the text alone tells


def _token(rows: Rows, tokenizer: Tokenizer) -> np.ndarray:
    return rows.tokens.numpy()


def _previous(rows: Rows, tokenizer: Tokenizer) -> np.ndarray:
    return _neighbour(rows, -1)


def _next(rows: Rows, tokenizer: Tokenizer) -> np.ndarray:
    return _neighbour(rows, 1)


def _neighbour(rows: Rows, step: int) -> np.ndarray:
    """Return the token so many positions on in the same window, -1 where none was recorded there."""
    tokens, window, position = (each.numpy() for each in rows)
    there = np.roll(window, -step) == window
    there &= np.roll(position, -step) == position + step
    return np.where(there, np.roll(tokens, -step), -1)


def _position(rows: Rows, tokenizer: Tokenizer) -> np.ndarray:
    return rows.position.double().numpy()


BLANK = re.compile(r" |\\[nrt]")
"""White space as `Tokenizer.piece` writes it."""


def _word_start(rows: Rows, tokenizer: Tokenizer) -> np.ndarray:
    kinds, which = np.unique(rows.tokens.numpy(), return_inverse=True)
    pieces = [tokenizer.piece(int(kind)) for kind in kinds]
    return np.array([piece[:1] == " " and BLANK.sub("", piece) != "" for piece in pieces], np.int64)[which]


FACTS: dict[str, Fact] = {
    "token": _token,
    "previous": _previous,
    "next": _next,
    "position": _position,
    "word-start": _word_start,
}
"""What the recipe can ask for, by name: each is known from the text, without the model."""


def held_out(windows: Int[np.ndarray, " N"]) -> Bool[np.ndarray, " N"]:
    """Return which rows are held out: those of every fifth window, so that no window has rows on both sides.

    Raises:
        UsageError: there are fewer than `LEAST_WINDOWS` windows.
    """
    found, which = np.unique(windows, return_inverse=True)
    if len(found) < LEAST_WINDOWS:
        raise UsageError(
            f"{len(found)} windows are too few: a probe is judged on a fifth of them and needs {LEAST_WINDOWS};"
            " record more tokens"
        )
    return which % HELD_OUT == HELD_OUT - 1


def most_frequent(
    labels: Int[np.ndarray, " N"] | Bool[np.ndarray, " N"], classes: int
) -> Int[np.ndarray, " C"] | Bool[np.ndarray, " C"]:
    """Return the most frequent labels, from the most frequent down; of equally frequent ones the smaller first. Labels
    below 0 are none."""
    kinds, counts = np.unique(labels[labels >= 0], return_counts=True)
    return kinds[np.argsort(-counts, kind="stable")[:classes]]


def probed(recipe: Probe, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Probe a recording for a fact about its text."""
    recorded = Recording.open(inputs[recipe.recording])
    rows = recorded.rows
    y = FACTS[recipe.target](rows, TextData.open(inputs[recipe.of.text]).tokenizer)
    windows, tokens = rows.window.numpy(), rows.tokens.numpy()
    judged = held_out(windows)
    wanted = np.ones(len(y), bool)
    if not np.issubdtype(y.dtype, np.floating):
        wanted = np.isin(y, most_frequent(y[~judged], recipe.classes))
    values = recorded.activations(Site(recipe.site))

    def side(where: Bool[np.ndarray, " N"]) -> Labelled:
        chosen = np.flatnonzero(where & wanted)
        x = values[torch.from_numpy(chosen)].double().numpy()
        return Labelled(x, y[chosen], tokens[chosen], windows[chosen])

    train, test = side(~judged), side(judged)
    found = probe(train, test, seed=stream(recipe.seed, "probe"))
    numbers = {name: each.to_json() for name, each in found._asdict().items() if isinstance(each, Estimate)}
    return {
        "measure": "accuracy" if train.of_classes else "r2",
        **numbers,
        "classes": len(np.unique(train.y)) if train.of_classes else None,
        "settled": found.settled,
        "fitted": len(train.y),
        "n": len(test.y),
        "left_out": int(len(y) - wanted.sum()),
    }
