"""BLEU from the counts of each sentence, so that its interval can be drawn from resampled sentences.

Counting is sacrebleu's (Post 2018), with its tokenisation of the text; the formula is that of Papineni et al. 2002,
section 2.3, with sacrebleu's default smoothing, and equals its score (see the tests).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from etude.core.errors import UsageError
from etude.evals.statistics import Estimate

ORDERS = 4
RESAMPLES = 2000


class Counts(NamedTuple):
    """What BLEU counts in each sentence.

    Attributes:
        right: [N, 4] n-grams that stand in the reference too.
        total: [N, 4] n-grams.
        length: [N] words.
        reference: [N] words of the reference.
    """

    right: np.ndarray
    total: np.ndarray
    length: np.ndarray
    reference: np.ndarray


def counted(written: Sequence[str], references: Sequence[str]) -> tuple[Counts, str]:
    """Return the counts of each sentence, and the signature that says how sacrebleu counted.

    Raises:
        UsageError: sacrebleu is not installed.
    """
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ModuleNotFoundError:
        raise UsageError("BLEU needs sacrebleu: pip install 'etude[translation]'") from None
    bleu, single = BLEU(), BLEU(effective_order=True)  # of single sentences the counts alone are used
    each = [single.sentence_score(text, [reference]) for text, reference in zip(written, references, strict=True)]
    bleu.corpus_score(list(written), [list(references)])  # the signature names the number of references
    columns = ([s.counts for s in each], [s.totals for s in each], [s.sys_len for s in each], [s.ref_len for s in each])
    counts = Counts(*(np.asarray(column, np.float64) for column in columns))
    return counts, str(bleu.get_signature())


def bleu_of(right: np.ndarray, total: np.ndarray, length: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return BLEU, from 0 to 100, from summed counts.

    Args:
        right: [..., 4].
        total: [..., 4].
        length: [...].
        reference: [...].

    An order without a right n-gram counts as half a one, the next such as a quarter, and so on (Chen and Cherry 2014,
    method 3). Where there is no n-gram of an order at all, or no right word, BLEU is 0.
    """
    none = right == 0
    halves = np.where(none, 0.5 ** np.cumsum(none, axis=-1), right)
    possible = (total > 0).all(axis=-1) & (right > 0).any(axis=-1)
    precision = halves / np.where(total > 0, total, 1)
    longer = np.maximum(reference, 1) / np.maximum(length, 1)
    brevity = np.minimum(1.0, np.exp(1 - longer))
    return np.where(possible, 100 * brevity * np.exp(np.log(precision).mean(axis=-1)), 0.0)


def _weights(n: int, seed: int) -> np.ndarray:
    """Return how often each of n sentences is drawn in each resample: [resamples, n]."""
    random = np.random.Generator(np.random.PCG64(seed))
    return random.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)


def _resampled(counts: Counts, weights: np.ndarray) -> np.ndarray:
    return bleu_of(*(weights @ column for column in counts))


def _between(mean: float, drawn: np.ndarray, n: int) -> Estimate:
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Estimate(mean, min(mean, float(low)), max(mean, float(high)), n)


def score(counts: Counts) -> float:
    """Return the BLEU of all sentences together."""
    return float(bleu_of(*(column.sum(axis=0) for column in counts)))


def estimate(counts: Counts, seed: int = 0) -> Estimate:
    """Return BLEU with its 95% interval over resampled sentences (Koehn 2004)."""
    n = len(counts.length)
    return _between(score(counts), _resampled(counts, _weights(n, seed)), n)


def difference(a: Counts, b: Counts, seed: int = 0) -> Estimate:
    """Return the BLEU of `a` over that of `b` on the same sentences, with its interval over the same resamples."""
    n = len(a.length)
    weights = _weights(n, seed)
    return _between(score(a) - score(b), _resampled(a, weights) - _resampled(b, weights), n)
