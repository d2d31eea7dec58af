"""BLEU from counts: sacrebleu's number, and intervals that behave."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest

from etude.core.errors import UsageError
from etude.evals.bleu import Counts, bleu_of, counted, difference, estimate, score

WORDS = ["ein", "Mann", "eine", "Frau", "geht", "über", "die", "Straße", "und", "singt", ",", "ein", "Lied", "."]


def sentences(seed: int, n: int = 40) -> tuple[list[str], list[str]]:
    """Return translations and references, of which the first keep some words."""
    draw = random.Random(seed)
    references = [" ".join(draw.choice(WORDS) for _ in range(draw.randint(3, 14))) for _ in range(n)]
    kept = 0.1 + 0.8 * draw.random()
    written = [" ".join(w if draw.random() < kept else draw.choice(WORDS) for w in r.split()) for r in references]
    return [text[: draw.randint(0, 80)] for text in written], references


@pytest.mark.parametrize("seed", range(8))
def test_it_is_sacrebleus_number(seed: int) -> None:
    metrics = pytest.importorskip("sacrebleu.metrics.bleu", reason="sacrebleu is in the extra translation")
    written, references = sentences(seed)
    counts, signature = counted(written, references)
    assert score(counts) == pytest.approx(metrics.BLEU().corpus_score(written, [references]).score, abs=1e-9)
    assert "tok:13a" in signature and "nrefs:1" in signature and "smooth:exp" in signature


def test_smoothing_and_nothing_at_all_are_sacrebleus() -> None:
    metrics = pytest.importorskip("sacrebleu.metrics.bleu", reason="sacrebleu is in the extra translation")
    for written, references in (
        (["a b c d e f"], ["a x c y e z"]),  # no pair is right
        (["a b c d e f"], ["a b x d e y"]),  # no triple
        (["a b"], ["a b c"]),  # there is no triple
        (["x y z w"], ["a b c d"]),  # no word
        ([""], ["a b c d"]),
    ):
        counts, _ = counted(written, references)
        assert score(counts) == pytest.approx(metrics.BLEU().corpus_score(written, [references]).score, abs=1e-9)


def made(right: float, n: int = 30) -> Counts:
    """Return counts of n like sentences of ten words of which a share is right in every order."""
    total = np.tile(np.array([10.0, 9, 8, 7]), (n, 1))
    return Counts(np.round(total * right), total, np.full(n, 10.0), np.full(n, 10.0))


def test_identities() -> None:
    assert score(made(1.0)) == pytest.approx(100)
    assert score(made(0.0)) == 0
    half = bleu_of(np.array([8.0, 4, 2, 1]), np.array([16.0, 8, 4, 2]), np.array(16.0), np.array(16.0))
    assert half == pytest.approx(50)
    short = bleu_of(np.array([8.0, 4, 2, 1]), np.array([16.0, 8, 4, 2]), np.array(8.0), np.array(16.0))
    assert short == pytest.approx(50 * np.exp(-1))  # exp(1 - 16 / 8)


def test_like_sentences_have_no_spread_and_unlike_ones_have() -> None:
    alike = estimate(made(0.5))
    assert alike.low == pytest.approx(alike.mean) == pytest.approx(alike.high) and alike.n == 30
    mixed = Counts(*(np.concatenate(pair) for pair in zip(made(0.9), made(0.3), strict=True)))
    found = estimate(mixed)
    assert found.low < found.mean < found.high and found.n == 60
    assert estimate(mixed) == found, "the resamples are drawn from a seed"


def test_differences_are_paired() -> None:
    mixed = Counts(*(np.concatenate(pair) for pair in zip(made(0.9), made(0.3), strict=True)))
    same = difference(mixed, mixed)
    assert (same.mean, same.low, same.high) == (0, 0, 0)
    assert difference(made(0.9), made(0.5)).above(0)


def test_without_sacrebleu_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.bleu", None)
    with pytest.raises(UsageError, match=r"BLEU needs sacrebleu: pip install 'etude\[translation\]'"):
        counted(["a"], ["a"])
