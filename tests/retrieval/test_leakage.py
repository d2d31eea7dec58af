from __future__ import annotations

import tempfile
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude.core.errors import UsageError
from etude.retrieval import leakage
from etude.retrieval.leakage import LongestRuns, Runs, longest_runs
from etude.retrieval.leakage_curves import curve, flattered, share_curve, sums_within, units_of
from etude.text.chunks import Chunks
from etude.text.store import TokenStore
from etude.text.store_writer import StoreWriter


def chunks_of(documents, size, end):
    """Return documents as chunks, from a store of their own."""
    with tempfile.TemporaryDirectory() as folder:
        with StoreWriter(Path(folder) / "a.tokens", end + 1) as writer:
            for document in documents:
                writer.add([*document, end], 0)
                writer.end_document()
        return Chunks(TokenStore.open(Path(folder) / "a.tokens"), size, end)


def brute(evaluation, training, size, least, end):
    """Return what `longest_runs` should, by trying everything in the order that decides."""
    found = []
    for document in evaluation:
        whole = [end, *document]
        for chunk in (whole[at : at + size] for at in range(0, len(whole), size)):
            best = (0, -1, -1, -1)
            for number, other in enumerate([end, *text] for text in training):
                for offset in range(len(other)):
                    for start in range(len(chunk)):
                        n = 0
                        while start + n < len(chunk) and other[offset + n : offset + n + 1] == [chunk[start + n]]:
                            n += 1
                        if n >= least and n > best[0]:
                            best = (n, start, number, offset)
            found.append(best)
    return found


def as_tuples(runs: Runs):
    return [tuple(int(value) for value in row) for row in zip(*runs, strict=True)]


SYMBOLS = 3
documents = st.lists(st.lists(st.integers(0, SYMBOLS - 1), min_size=1, max_size=14), min_size=1, max_size=6)


@settings(max_examples=80, deadline=None)
@given(documents, documents, st.integers(1, 9), st.data())
def test_every_run_is_the_one_that_trying_everything_finds(evaluation, training, size, data):
    least, room = data.draw(st.integers(1, size)), data.draw(st.integers(1, 80))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leakage, "ROOM", room)  # so that runs reach over the borders of blocks
        found = longest_runs(chunks_of(evaluation, size, SYMBOLS), chunks_of(training, size, SYMBOLS), least)
    assert as_tuples(found) == brute(evaluation, training, size, least, SYMBOLS)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_one_document_against_another_agrees_with_difflib(one, other):
    found = longest_runs(chunks_of([one], 64, 5), chunks_of([other], 64, 5), least=1)
    match = SequenceMatcher(None, [5, *one], [5, *other], autojunk=False).find_longest_match()
    assert found.length.tolist() == [match.size]


def test_planted_spans_are_found_wherever_they_begin_and_nothing_else_is():
    random = np.random.default_rng(0)
    words, end = 5000, 5000
    evaluation = [random.integers(0, words, 640).tolist() for _ in range(20)]
    training = [random.integers(0, words, 3000).tolist() for _ in range(40)]
    planted = {}
    for chunk in range(0, 200, 7):
        document, within = divmod(chunk, 10)
        length = int(random.integers(16, 64))
        start = int(random.integers(1, 64 - length + 1))
        at, place = 64 * within + start - 1, 70 * (chunk // 7) + 3  # a chunk reads the separator first
        target = chunk % len(training)
        training[target][place : place + length] = evaluation[document][at : at + length]
        planted[document * 11 + within] = (length, start, target, place + 1)
    found = as_tuples(longest_runs(chunks_of(evaluation, 64, end), chunks_of(training, 64, end)))
    for chunk, row in enumerate(found):
        if chunk not in planted:
            assert row == (0, -1, -1, -1)
            continue
        length, start, target, offset = planted[chunk]
        assert row[2] == target and row[0] >= length
        assert row[1] <= start and row[3] - row[1] == offset - start  # a neighbouring token may agree by chance


def test_a_run_over_two_training_documents_counts_only_in_one():
    sides = chunks_of([[1, 2, 3, 4], [5, 6, 7, 8, 9]], 8, 10)
    found = longest_runs(chunks_of([[2, 3, 4, 5, 6, 7]], 8, 10), sides, least=1)
    assert as_tuples(found) == [(3, 1, 0, 2)]  # 2 3 4, though 5 6 7 follows in the store but for a separator


def test_a_whole_document_is_shared_whole_with_the_separator_that_opens_it():
    text = list(range(20))
    found = longest_runs(chunks_of([text], 8, 30), chunks_of([[29], text], 8, 30), least=2)
    assert as_tuples(found) == [(8, 0, 1, 0), (8, 0, 1, 8), (5, 0, 1, 16)]


def test_colliding_hashes_make_no_run_of_what_is_none(monkeypatch):
    monkeypatch.setattr(leakage, "_FACTOR", np.uint64(0))
    monkeypatch.setattr(leakage, "_SPREAD", np.uint64(0))  # every n-gram has one hash
    random = np.random.default_rng(1)
    evaluation, training = ([random.integers(0, 3, 30).tolist() for _ in range(4)] for _ in range(2))
    found = longest_runs(chunks_of(evaluation, 8, 3), chunks_of(training, 8, 3), least=2)
    assert as_tuples(found) == brute(evaluation, training, 8, 2, 3)


def test_one_n_gram_everywhere_costs_no_quadratic_number_of_pairs(monkeypatch):
    monkeypatch.setattr(leakage, "ROOM", 1 << 18)
    compared = []
    shared = leakage._shared

    def counted(a, b):
        compared.append(len(a))
        return shared(a, b)

    monkeypatch.setattr(leakage, "_shared", counted)
    text = chunks_of([[0] * 20_000], 64, 1)
    found = longest_runs(chunks_of([[0] * 5_000 + [2]], 64, 3), text)  # the last chunk ends with a token of its own
    assert found.length[1:-1].tolist() == [64] * 77 and found.length[-1] == 5001 % 64 and set(found.document) == {0}
    assert sum(compared) <= 2 * 5_002 * 2


def test_a_search_goes_on_from_its_state_to_the_same_end(monkeypatch):
    monkeypatch.setattr(leakage, "ROOM", 64)
    random = np.random.default_rng(2)
    evaluation, training = (chunks_of([random.integers(0, 3, 50).tolist() for _ in range(6)], 8, 3) for _ in range(2))
    unbroken = longest_runs(evaluation, training, 2)
    first = LongestRuns(evaluation, training, 2)
    for _ in range(5):
        first.step()
    state = {name: array.copy() for name, array in first.state().items()}
    again = LongestRuns(evaluation, training, 2)
    again.load(state)
    assert 0 < again.done < again.total
    assert as_tuples(again.run()) == as_tuples(unbroken)


@pytest.mark.parametrize("least", [0, 9])
def test_a_least_run_that_fits_no_chunk_is_refused(least):
    text = chunks_of([[0]], 8, 1)
    with pytest.raises(UsageError, match=f"least = {least} tokens of a chunk of 8: give 1 to 8"):
        LongestRuns(text, text, least)


def test_a_curve_ends_at_the_whole_and_is_computed_over_what_shares_no_more():
    random = np.random.default_rng(3)
    r, nats = random.integers(0, 9, 400) / 8, random.normal(2, 1, 400)
    bytes, documents = random.integers(1, 9, 400), np.repeat(np.arange(40), 10)
    units = units_of(documents)
    assert units.name == "documents"
    found = curve(r, nats, bytes, units, [0.25, 1.0])
    kept = r <= 0.25
    assert [e.mean for e in found if e] == pytest.approx(
        [nats[kept].sum() / bytes[kept].sum(), nats.sum() / bytes.sum()]
    )
    assert [share.mean for share in share_curve(r, units, [0.25, 1.0])] == [kept.mean(), 1.0]
    assert curve(r, nats, bytes, units, [-0.5])[0] is None
    assert units_of(documents[:50]).name == "chunks"  # 5 documents


def test_the_interval_of_a_difference_is_that_of_a_bootstrap_over_documents():
    random = np.random.default_rng(4)
    documents = np.repeat(np.arange(150), 8)
    easy = np.repeat(random.normal(0, 0.3, 150), 8)
    r = random.integers(0, 9, len(documents)) / 8
    bytes = random.integers(100, 300, len(documents)).astype(float)
    nats = bytes * (2 + easy - 0.3 * (r > 0.5) + random.normal(0, 0.2, len(documents)))
    found = flattered(r, nats, bytes, units_of(documents), 0.5)
    assert found is not None and found.excludes_zero
    kept, draws = r <= 0.5, []
    sums = [np.bincount(documents, x) for x in (nats * kept, bytes * kept, nats, bytes)]
    for _ in range(2000):
        drawn = random.integers(0, 150, 150)
        a, b, c, d = (x[drawn].sum() for x in sums)
        draws.append(a / b - c / d)
    assert [found.low, found.high] == pytest.approx(
        np.quantile(draws, [0.025, 0.975]), abs=0.1 * (found.high - found.low)
    )


def test_measurements_of_other_chunks_are_refused():
    r = np.zeros(3)
    with pytest.raises(UsageError, match="2 sums and 3 counts are not of the 3 chunks"):
        curve(r, np.zeros(2), np.ones(3), units_of(np.arange(3)), [1.0])


def test_sums_within_chunks_are_those_of_their_tokens():
    losses = np.arange(10, dtype=np.float32)
    assert sums_within(losses, np.array([0, 3, 7]), np.array([3, 3, 10])).tolist() == [3.0, 0.0, 24.0]
