"""Pairs of segments: half of them go on, the others come from another document, and nothing but the text tells."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy import stats

from etude.core.errors import UsageError
from etude.text.batches import IGNORE, Batch
from etude.text.framing import Frame
from etude.text.sentences import Segments
from etude.text.store import TokenStore
from etude.text.tokenizers.live import ByteTokenizer

TOKENIZER = ByteTokenizer(("mask", "first", "separator", "pad"))
FRAME = Frame.of(TOKENIZER)
LENGTHS = [30, 3, 11, 2, 1, 25, 8]
DOCUMENTS = [[20 * number + place % 20 for place in range(length)] for number, length in enumerate(LENGTHS)]
"""The token tells its document, and its place modulo 20."""
Stored = Callable[..., TokenStore]


def halves(batch: Batch, row: int) -> tuple[list[int], list[int]]:
    """Return A and B of a sample, and check what stands around them."""
    present = batch.given["present"][row]
    inputs, segments = batch.inputs[row][present].tolist(), batch.given["segments"][row][present].tolist()
    cut = segments.index(1)
    assert inputs[0] == FRAME.first and inputs[cut - 1] == inputs[-1] == FRAME.separator
    assert segments == sorted(segments)
    assert (batch.inputs[row][~present] == FRAME.pad).all() and not batch.given["segments"][row][~present].any()
    return inputs[1 : cut - 1], inputs[cut:-1]


def consecutive(tokens: list[int]) -> bool:
    return all(b // 20 == a // 20 and b % 20 == (a + 1) % 20 for a, b in pairwise(tokens))


@pytest.mark.parametrize("context", [5, 12, 40])
def test_b_follows_or_is_of_another_document(stored: Stored, context: int) -> None:
    segments = Segments(stored(DOCUMENTS, TOKENIZER), context, FRAME)
    indices = np.arange(len(segments))
    for draw in range(20):
        batch = segments.batch(indices, draw)
        assert batch.inputs.shape == (len(segments), context) and (batch.targets == IGNORE).all()
        for row in indices:
            a, b = halves(batch, int(row))
            assert a and b and consecutive(a) and consecutive(b)
            goes_on = a[-1] // 20 == b[0] // 20
            assert goes_on == (batch.given["follows"][row] == 0)
            assert consecutive(a + b) == goes_on


def test_stretches_cover_the_documents_and_use_no_separator(stored: Stored) -> None:
    segments = Segments(stored(DOCUMENTS, TOKENIZER), 13, FRAME)  # room for 10 tokens
    assert len(segments) == 3 + 1 + 1 + 1 + 0 + 3 + 1  # a rest of one token is no stretch
    seen = [halves(segments.batch(np.arange(len(segments)), draw), row)[0][0] for draw in range(2) for row in range(10)]
    assert seen[:10] == seen[10:] == [0, 10, 0, 20, 40, 60, 100, 110, 100, 120]


def test_half_of_the_draws_follow_and_lengths_do_not_tell(stored: Stored) -> None:
    segments = Segments(stored(DOCUMENTS, TOKENIZER), 16, FRAME)
    batches = [segments.batch(np.arange(len(segments)), draw) for draw in range(400)]
    follows = np.concatenate([batch.given["follows"] for batch in batches])
    assert stats.binomtest(int(follows.sum()), len(follows), 0.5).pvalue > 1e-3
    lengths = np.concatenate([batch.given["present"].sum(1) for batch in batches])
    second = np.concatenate([batch.given["segments"].sum(1) for batch in batches])
    for told in (lengths, second):
        table = np.stack([np.bincount(told[follows == kind], minlength=17) for kind in (0, 1)])
        found: Any = stats.chi2_contingency(table[:, table.sum(0) > 10])
        assert found.pvalue > 1e-3


def test_other_documents_are_drawn_evenly(stored: Stored) -> None:
    segments = Segments(stored([[10 * n + k for k in range(6)] for n in range(5)], TOKENIZER), 9, FRAME)
    counts = np.zeros(5)
    for draw in range(2000):
        batch = segments.batch(np.array([2]), draw)
        if batch.given["follows"][0]:
            counts[halves(batch, 0)[1][0] // 10] += 1
    assert counts[2] == 0 and stats.chisquare(counts[[0, 1, 3, 4]]).pvalue > 1e-3


def test_a_sample_and_a_draw_decide_it(stored: Stored) -> None:
    segments = Segments(stored(DOCUMENTS, TOKENIZER), 16, FRAME)
    whole, part = segments.batch(np.arange(len(segments)), 5), segments.batch(np.array([4, 1]), 5)
    assert (part.inputs == whole.inputs[[4, 1]]).all()
    assert all((part.given[name] == whole.given[name][[4, 1]]).all() for name in whole.given)


@pytest.mark.parametrize(
    ("documents", "context", "openings", "message"),
    [
        (DOCUMENTS, 4, 0, "a context of 4 has no room for two segments and 3 special tokens: give 5 or more"),
        ([[1, 2, 3], [4]], 8, 0, "two documents of two tokens or more"),
        (DOCUMENTS, 8, 40, "cut from whole documents: make the tokens with openings 0"),
    ],
)
def test_what_gives_no_pairs(
    stored: Stored, documents: list[list[int]], context: int, openings: int, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Segments(stored(documents, TOKENIZER, openings=openings), context, FRAME)
