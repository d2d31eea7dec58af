from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude.core.errors import UsageError
from etude.retrieval.duplicates import (
    GRAM,
    HASHES,
    MISSED,
    banding,
    check_alike,
    documents,
    grams,
    hashes,
    jaccard,
    missed,
    near_duplicates,
)
from etude.text.store import TokenStore
from etude.text.store_writer import StoreWriter


def text(seed, length, vocabulary=5000):
    return np.random.default_rng(seed).integers(vocabulary, size=length)


def shared(one, other):
    """Return the Jaccard similarity of two documents' grams, as Python's sets have it."""
    a, b = (
        {tuple(d[i : i + GRAM]) for i in range(len(d) - GRAM + 1)} or {tuple(d)} for d in (one.tolist(), other.tolist())
    )
    return len(a & b) / len(a | b)


def changed(tokens, places):
    """Return a copy in which the tokens at some places are others."""
    copy = tokens.copy()
    copy[list(places)] += 10_000
    return copy


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 2), max_size=40), st.lists(st.integers(0, 2), max_size=40))
def test_similarity_is_that_of_the_sets_of_grams(one, other):
    a, b = np.array(one, np.int64), np.array(other, np.int64)
    assert jaccard(a, b) == shared(a, b)
    assert jaccard(a, a) == 1.0


def test_grams_are_every_run_of_thirteen_tokens_and_a_shorter_document_is_whole():
    assert grams(np.arange(15)).tolist() == [list(range(i, i + 13)) for i in range(3)]
    assert grams(np.arange(4)).tolist() == [[0, 1, 2, 3, *[-1] * 9]]


@pytest.mark.parametrize(
    ("length", "places", "near"),
    [
        (400, [], True),
        (400, [200], True),
        (400, [100, 200, 300], True),
        (400, range(20, 400, 60), False),
        (400, [120, 160, 200, 260, 320], False),
    ],
)
def test_a_document_is_left_out_just_where_its_similarity_reaches_the_bound(length, places, near):
    held_out = [text(1, 300), text(2, length), text(3, 50)]
    copy = changed(held_out[1], places)
    assert (shared(copy, held_out[1]) >= 0.8) == near
    found = near_duplicates([text(9, 350), copy], held_out)
    assert [(double.document, double.of) for double in found] == ([(1, 1)] if near else [])
    if near:
        assert found[0].alike == shared(copy, held_out[1])


def test_documents_shorter_than_a_gram_are_compared_whole():
    library = [np.array([1, 2, 3]), np.array([1, 2, 4]), np.array([1, 2, 3, 4]), np.arange(13)]
    assert [d.document for d in near_duplicates(library, [np.array([1, 2, 3]), np.arange(12)])] == [0]


def test_of_many_pairs_around_the_bound_all_are_found_that_should_be_and_no_other():
    """With this many, hashes that are no good would miss some."""
    library, held_out = [], []
    for seed in range(120):
        held_out.append(text(seed, 300, vocabulary=60))
        places = np.random.default_rng(seed).choice(300, size=seed % 6, replace=False)
        library.append(changed(held_out[-1], places))
    wanted = {n for n in range(120) if shared(library[n], held_out[n]) >= 0.8}
    assert 40 < len(wanted) < 110
    assert {double.document for double in near_duplicates(library, held_out)} == wanted


@given(st.floats(0.11, 1.0))
def test_bands_miss_a_pair_at_the_bound_no_more_often_than_stated(alike):
    bands, rows = banding(alike)
    assert bands * rows <= HASHES
    assert missed(alike, bands, rows) <= MISSED
    assert missed(min(1.0, alike + 0.1), bands, rows) <= missed(alike, bands, rows)


def test_hashes_tell_grams_apart_and_in_another_order_too():
    rows = np.random.default_rng(0).integers(300, size=(20_000, GRAM))
    found = hashes(np.concatenate([rows, rows[:, ::-1], np.roll(rows, 1, axis=1)]))
    assert len(np.unique(found)) > 60_000 - 5  # of 32 bits, less than one pair in two draws is alike
    assert found.max() < 2**32


def test_at_the_usual_bound_a_pair_is_missed_once_in_twenty_million_times():
    assert banding(0.8) == (32, 4)
    assert missed(0.8, 32, 4) == pytest.approx((1 - 0.8**4) ** 32) and missed(0.8, 32, 4) < 5e-8


def test_the_separator_that_ends_a_document_is_no_part_of_it(tmp_path):
    with StoreWriter(tmp_path / "x.tokens", 300) as writer:
        for tokens in ([5, 6, 256], [256], [7]):
            writer.add(tokens, 1)
            writer.end_document()
    assert [d.tolist() for d in documents(TokenStore.open(tmp_path / "x.tokens"), 256)] == [[5, 6], [], [7]]


def test_progress_counts_the_librarys_documents():
    said = []
    near_duplicates([text(1, 20), text(2, 20)], [text(3, 20)], progress=said.append)
    assert said == [1, 2]


@pytest.mark.parametrize("alike", [0.1, -1.0, 1.5])
def test_a_similarity_that_is_none_or_too_small_is_refused_in_one_line(alike):
    with pytest.raises(UsageError, match=r"give a Jaccard similarity of 0.11 to 1, or 0 for none$"):
        check_alike(alike)


def test_without_datasketch_the_error_says_what_to_install_or_leave_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(UsageError, match=r"pip install 'etude\[retrieval\]', or --near-duplicates 0 to keep them"):
        near_duplicates([], [])
