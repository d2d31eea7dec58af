"""From a store to batches: what one sample is, and in which order samples come."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from etude.core.errors import UsageError
from etude.text.store import TokenStore

IGNORE = -100
"""Target where there is nothing to predict; PyTorch's cross-entropy leaves it out by default."""


@dataclass(frozen=True)
class Batch:
    """Some samples.

    Attributes:
        inputs: [B, T] int64, the tokens that the model reads.
        targets: [B, T] int64, what it should say at each position, or IGNORE; or [B], the class of each sample.
        given: what else the model is called with, by keyword, each with B rows: `documents`, `present`, `segments`,
            `source`, `source_present`, ...
    """

    inputs: np.ndarray
    targets: np.ndarray
    given: Mapping[str, np.ndarray] = field(default_factory=dict)

    def rows(self, rows: slice) -> Batch:
        """Return some of the samples."""
        return Batch(self.inputs[rows], self.targets[rows], {name: a[rows] for name, a in self.given.items()})


@runtime_checkable  # so that checkers of types at run time can ask
class Examples(Protocol):
    """Samples of one length, by number."""

    @property
    def context(self) -> int:
        """Length of a sample's inputs."""
        ...

    @property
    def vocabulary(self) -> int:
        """Every token is below it."""
        ...

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray, draw: int = 0) -> Batch:
        """Return some samples.

        In next-token prediction `targets[b, t]` is the token that follows `inputs[b, :t + 1]`, or IGNORE where there is
        nothing to predict.

        Args:
            indices: which.
            draw: where a sample has something random in it (which tokens are masked), the number of the draw. A sample
                and a draw decide it, whatever else is in the batch. Evaluations take 0, a training its steps.
        """
        ...


class Windows:
    """Windows of `context + 1` consecutive tokens, each beginning with the last token of the one before it, so that
    every token but the first is predicted once. Windows run across documents; what is left at the end, less than a
    window, is never used.

    Args:
        store: the tokens.
        context: length of a window.
        end: the token that separates documents.
        apart: whether no document of a window sees another: `given` then has `documents`. A separator belongs to the
            document that it opens: the first token is predicted from it alone, as in `Openings`, and the separator that
            ends a document from the document.
        restarted: whether `given` has `positions` too, which count from 0 in each document.

    Raises:
        UsageError: the store is shorter than one window.
    """

    def __init__(self, store: TokenStore, context: int, end: int, apart: bool = False, restarted: bool = False) -> None:
        check_context(context)
        if store.count < context + 1:
            raise UsageError(
                f"a context of {context} needs {context + 1} tokens and the text has {store.count}: give more text or"
                " a smaller context"
            )
        self.store, self.context, self.end = store, context, end
        self.apart, self.restarted = apart, restarted
        self.vocabulary = store.vocabulary

    def __len__(self) -> int:
        return (self.store.count - 1) // self.context

    def batch(self, indices: np.ndarray, draw: int = 0) -> Batch:
        starts = check_numbers(indices, len(self)) * self.context
        found = self.store.tokens[starts[:, None] + np.arange(self.context + 1)].astype(np.int64)
        inputs, targets = found[:, :-1], found[:, 1:]
        if not self.apart:
            return Batch(inputs, targets)
        opens = inputs == self.end
        given = {"documents": np.cumsum(opens, axis=1)}
        if self.restarted:
            places = np.arange(self.context)
            given["positions"] = places - np.maximum.accumulate(np.where(opens, places, 0), axis=1)
        return Batch(inputs, targets, given)


class Openings:
    """One sample a document: its first N tokens are the targets, and the inputs are the separator and the first N - 1,
    so that the first token too is predicted.

    A shorter document leaves places over on the right. Their targets are IGNORE. Their inputs hold the separator, a
    token like any other, and this changes nothing: attention is causal, so no place to the left sees them, and what is
    predicted at them is not counted. The store holds no padding, and no token of the text is ever taken for it.

    Raises:
        UsageError: the samples are longer than the context.
    """

    def __init__(self, store: TokenStore, context: int, end: int) -> None:
        check_context(context)
        if store.openings > context:
            raise UsageError(
                f"the samples are {store.openings} tokens long and the context is {context}: give a context of"
                f" {store.openings} or more, or make the text with fewer openings"
            )
        self.store, self.context, self.end = store, store.openings, end
        self.vocabulary = store.vocabulary

    def __len__(self) -> int:
        return self.store.header.documents

    def batch(self, indices: np.ndarray, draw: int = 0) -> Batch:
        numbers = check_numbers(indices, len(self))
        starts = self.store.documents[numbers].astype(np.int64)
        lengths = self.store.documents[numbers + 1].astype(np.int64) - starts
        places = np.arange(self.context)
        there = places < lengths[:, None]
        at = np.where(there, starts[:, None] + places, 0)
        targets = np.where(there, self.store.tokens[at].astype(np.int64), IGNORE)
        before = np.concatenate([np.full((len(numbers), 1), self.end), targets[:, :-1]], axis=1)
        return Batch(np.where(before == IGNORE, self.end, before), targets)


def order(n: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order in which the samples 0 to n - 1 come in one epoch: each once, int64, read only.

    It sorts the raw output of PCG64, which NumPy keeps the same for ever and on every machine; NumPy's own
    `permutation` may change between releases.
    """
    generator = np.random.PCG64(np.random.SeedSequence([seed, epoch]))
    permutation = np.argsort(generator.random_raw(n), kind="stable").astype(np.int64)
    permutation.setflags(write=False)
    return permutation


_recent_order = functools.lru_cache(maxsize=3)(order)


class Sampler:
    """Which samples each step takes: the epochs' orders one after the other, cut into batches.

    A step's samples follow from its number alone, so a work that goes on at step s goes on exactly there. A batch may
    hold the end of one epoch and the start of the next; none is left out and none comes twice in an epoch.
    """

    def __init__(self, n: int, batch: int, seed: int) -> None:
        if n < 1 or batch < 1:
            raise UsageError(f"{n} samples in batches of {batch}: both must be at least 1")
        self.n, self.batch, self.seed = n, batch, seed

    def indices(self, step: int) -> np.ndarray:
        """Return the samples of a step, from 0: int64 [B]."""
        start, stop = step * self.batch, (step + 1) * self.batch
        epochs = range(start // self.n, (stop - 1) // self.n + 1)
        parts = (
            _recent_order(self.n, self.seed, epoch)[max(start - epoch * self.n, 0) : stop - epoch * self.n]
            for epoch in epochs
        )
        return np.concatenate([part[: self.n] for part in parts])


def check_context(context: int) -> None:
    """Raise UsageError where a context has no room for a token."""
    if context < 1:
        raise UsageError(f"a context of {context} has no room: give at least 1")


def check_numbers(indices: np.ndarray, n: int) -> np.ndarray:
    """Return sample numbers as int64. A negative one would otherwise silently be taken from the end."""
    numbers = np.asarray(indices, dtype=np.int64)
    if numbers.size and not (numbers.min() >= 0 and numbers.max() < n):
        raise IndexError(f"samples {numbers.min()} to {numbers.max()} asked of {n}")
    return numbers
