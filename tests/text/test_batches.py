from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude.core.errors import UsageError
from etude.text.batches import IGNORE, Batch, Openings, Sampler, Windows, order
from etude.text.store import TokenStore
from etude.text.store_writer import StoreWriter

END = 99


def store(path: Path, documents: list[list[int]], openings: int = 0) -> TokenStore:
    with StoreWriter(path / "a.tokens", 100, openings) as writer:
        for document in documents:
            writer.add(document, len(document))
            writer.end_document()
    return TokenStore.open(path / "a.tokens")


def both(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    assert not batch.given
    return batch.inputs, batch.targets


def test_windows_predict_every_token_but_the_first_once(tmp_path: Path):
    windows = Windows(store(tmp_path, [list(range(30)), list(range(30, 60))]), context=7, end=END)
    assert len(windows) == 59 // 7
    inputs, targets = both(windows.batch(np.arange(len(windows))))
    assert inputs.dtype == targets.dtype == np.int64 and inputs.shape == (8, 7)
    assert targets.ravel().tolist() == list(range(1, 57))
    assert (targets == inputs + 1).all()


@settings(max_examples=30, deadline=None)  # each example writes a file, and waits for the disk
@given(count=st.integers(2, 40), context=st.integers(1, 12))
def test_windows_use_all_but_less_than_one(tmp_path_factory: pytest.TempPathFactory, count: int, context: int):
    tokens = store(tmp_path_factory.mktemp("w"), [list(range(count))])
    if count < context + 1:
        with pytest.raises(UsageError):
            Windows(tokens, context, END)
        return
    windows = Windows(tokens, context, END)
    assert 0 <= count - 1 - len(windows) * context < context
    assert windows.batch(np.array([len(windows) - 1])).targets[0, -1] == len(windows) * context


def test_too_short_for_the_context(tmp_path: Path):
    with pytest.raises(UsageError, match="a context of 8 needs 9 tokens and the text has 8: give more text"):
        Windows(store(tmp_path, [list(range(8))]), 8, END)
    with pytest.raises(UsageError, match="a context of 0"):
        Windows(store(tmp_path, [list(range(8))]), 0, END)


def test_openings_shift_by_the_separator_and_ignore_what_is_not_there(tmp_path: Path):
    openings = Openings(store(tmp_path, [[1, 2, 3, 4], [5, 6], [END]], openings=4), context=10, end=END)
    inputs, targets = both(openings.batch(np.array([0, 1, 2])))
    assert openings.context == 4 and len(openings) == 3
    assert inputs.tolist() == [[END, 1, 2, 3], [END, 5, 6, END], [END, END, END, END]]
    assert targets.tolist() == [[1, 2, 3, 4], [5, 6, IGNORE, IGNORE], [END, IGNORE, IGNORE, IGNORE]]


def test_openings_longer_than_the_context(tmp_path: Path):
    with pytest.raises(UsageError, match="the samples are 4 tokens long and the context is 3"):
        Openings(store(tmp_path, [[1]], openings=4), 3, END)


@pytest.mark.parametrize("wrong", [[-1], [0, 3]])
def test_a_sample_that_is_not_there(tmp_path: Path, wrong: list[int]):
    samples = Openings(store(tmp_path, [[1], [2], [3]], openings=4), 4, END)
    with pytest.raises(IndexError):
        samples.batch(np.array(wrong))


def test_the_order_is_the_same_for_ever():
    assert order(10, seed=1, epoch=0).tolist() == GOLDEN[0]
    assert order(10, seed=1, epoch=1).tolist() == GOLDEN[1]
    code = "from etude.text.batches import order; print(order(10, 2**62 + 5, 3).tolist())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(order(10, 2**62 + 5, 3).tolist())


@given(n=st.integers(1, 50), seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 1000))
def test_the_order_has_each_sample_once(n: int, seed: int, epoch: int):
    assert sorted(order(n, seed, epoch).tolist()) == list(range(n))


def test_seeds_and_epochs_give_other_orders():
    orders = {tuple(order(20, seed, epoch).tolist()) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


def test_the_order_is_uniform():
    places = np.array([order(5, 0, epoch) for epoch in range(4000)])
    counts = np.stack([(places == sample).sum(0) for sample in range(5)])
    assert ((counts - 800) ** 2 / 800).sum() < 45  # chi squared, 16 degrees of freedom: beyond 45 in 1 of 7,000 cases


@given(n=st.integers(1, 23), batch=st.integers(1, 60), seed=st.integers(0, 9))
def test_each_epoch_takes_each_sample_once(n: int, batch: int, seed: int):
    sampler = Sampler(n, batch, seed)
    taken = np.concatenate([sampler.indices(step) for step in range(-(-3 * n // batch))])
    for epoch in range(3):
        assert sorted(taken[epoch * n : (epoch + 1) * n].tolist()) == list(range(n))


def test_a_step_follows_from_its_number_alone():
    sampler = Sampler(17, 5, seed=3)
    forwards = [sampler.indices(step).tolist() for step in range(20)]
    backwards = [Sampler(17, 5, seed=3).indices(step).tolist() for step in reversed(range(20))]
    assert forwards == backwards[::-1]
    assert all(len(indices) == 5 for indices in forwards)


def test_an_empty_sampler():
    with pytest.raises(UsageError, match="0 samples in batches of 4"):
        Sampler(0, 4, 0)


GOLDEN = [[9, 2, 4, 7, 5, 0, 8, 6, 3, 1], [5, 6, 3, 0, 7, 2, 1, 4, 9, 8]]


def test_documents_kept_apart_are_told_with_their_separator_before_them(tmp_path: Path):
    tokens = store(tmp_path, [[1, 2, END], [3, 4, 5, END], [6, 7, 8, 9]])
    windows = Windows(tokens, 5, END, apart=True, restarted=True)
    batch = windows.batch(np.array([0, 1]))
    assert batch.inputs.tolist() == [[1, 2, END, 3, 4], [5, END, 6, 7, 8]]
    assert batch.given["documents"].tolist() == [[0, 0, 1, 1, 1], [0, 1, 1, 1, 1]]
    assert batch.given["positions"].tolist() == [[0, 1, 0, 1, 2], [0, 0, 1, 2, 3]]
    assert Windows(tokens, 5, END, apart=True).batch(np.array([0])).given.keys() == {"documents"}
    assert not Windows(tokens, 5, END).batch(np.array([0])).given
