"""What a transformer has to beat: uniform, unigram and bigram models of the same tokens.

Each gives log-probabilities of targets given the token before, so it is scored on the very windows that a model is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import sparse

from etude.text.batches import IGNORE, Examples

_PAIRS = 1 << 22
"""Pairs counted at once, to bound memory."""


def count_pairs(examples: Examples) -> sparse.csr_array:
    """Return how often each token [V] is followed by each [V] among what a model of these samples learns to predict.

    So no pair runs from one opening into the next, and the first token of an opening counts as following the separator.
    """
    shape = (examples.vocabulary, examples.vocabulary)
    counts = sparse.csr_array(shape, dtype=np.float64)
    batch = max(1, _PAIRS // examples.context)
    for start in range(0, len(examples), batch):
        found = examples.batch(np.arange(start, min(start + batch, len(examples))))
        before, targets = found.inputs, found.targets
        there = targets != IGNORE
        pairs = sparse.csr_array((np.ones(there.sum()), (before[there], targets[there])), shape=shape)
        counts = sparse.csr_array(counts + pairs)
    return counts


class Baseline(Protocol):
    """A model that sees at most the token before."""

    def log_probability(self, before: np.ndarray, token: np.ndarray) -> np.ndarray:
        """Return the natural log of p(token | before), elementwise."""
        ...

    def likeliest(self, before: np.ndarray) -> np.ndarray:
        """Return the likeliest next token."""
        ...


@dataclass(frozen=True)
class Uniform:
    """Every token equally likely.

    Attributes:
        vocabulary: V.
    """

    vocabulary: int

    def log_probability(self, before: np.ndarray, token: np.ndarray) -> np.ndarray:
        return np.full(token.shape, -np.log(self.vocabulary))

    def likeliest(self, before: np.ndarray) -> np.ndarray:
        return np.zeros(before.shape, np.int64)


class Unigram:
    """Token frequencies of the training split, with one added to each count (Laplace) so that none is impossible.

    Args:
        counts: [V] how often each token is predicted.
    """

    def __init__(self, counts: np.ndarray) -> None:
        self.probability = (counts + 1) / (counts.sum() + len(counts))

    def log_probability(self, before: np.ndarray, token: np.ndarray) -> np.ndarray:
        return np.log(self.probability[token])

    def likeliest(self, before: np.ndarray) -> np.ndarray:
        return np.full(before.shape, int(self.probability.argmax()))


class Bigram:
    """Pair frequencies of the training split with interpolated absolute discounting (Ney, Essen and Kneser 1994).

    p(w | v) = max(c(v, w) - d, 0) / c(v) + d · N1+(v) / c(v) · p(w), where p(w) is the unigram and N1+(v) the number of
    kinds of token seen after v. The discount is d = n1 / (n1 + 2 n2), from the numbers of pairs seen once and twice.
    After a token that was never seen it is the unigram.

    Args:
        counts: [V, V] from `count_pairs`.
    """

    def __init__(self, counts: sparse.csr_array) -> None:
        self.counts = counts
        self.unigram = Unigram(np.asarray(counts.sum(axis=0)).ravel())
        once, twice = int((counts.data == 1).sum()), int((counts.data == 2).sum())
        self.discount = once / (once + 2 * twice) if once else 0.5
        self.after = np.asarray(counts.sum(axis=1)).ravel()
        self.kinds = np.diff(counts.indptr)

    def log_probability(self, before: np.ndarray, token: np.ndarray) -> np.ndarray:
        seen = self.after[before]
        pair = np.asarray(self.counts[before.ravel(), token.ravel()]).reshape(before.shape)
        weight = np.where(seen > 0, self.discount * self.kinds[before] / np.maximum(seen, 1), 1.0)
        direct = np.where(seen > 0, np.maximum(pair - self.discount, 0) / np.maximum(seen, 1), 0.0)
        return np.log(direct + weight * self.unigram.probability[token])

    def likeliest(self, before: np.ndarray) -> np.ndarray:
        fallback = int(self.unigram.probability.argmax())
        best = np.full(len(self.after), fallback)
        background = self.discount * self.unigram.probability
        for v in np.unique(before):
            row = slice(self.counts.indptr[v], self.counts.indptr[v + 1])
            kinds = self.counts.indices[row]
            if len(kinds):
                score = np.maximum(self.counts.data[row] - self.discount, 0) + self.kinds[v] * background[kinds]
                top = int(score.argmax())
                best[v] = kinds[top] if score[top] >= self.kinds[v] * background[fallback] else fallback
        return best[before]


def score_baseline(baseline: Baseline, inputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the summed loss and the number of right guesses of each window.

    Args:
        baseline: the model.
        inputs: [N, T] the token before each target.
        targets: [N, T] with IGNORE where there is nothing to predict.
    """
    predicted = targets != IGNORE
    safe = np.where(predicted, targets, 0)
    loss = np.where(predicted, -baseline.log_probability(inputs, safe), 0.0).sum(1)
    right = ((baseline.likeliest(inputs) == safe) & predicted).sum(1)
    return loss, right
