"""Batches made a step ahead: the same ones, once each, errors where they are asked for, and nothing left running."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from etude.core.lab import Lab
from etude.core.run import Run
from etude.core.shelf import differences
from etude.text.batches import Batch, Windows
from etude.train.ahead import Ahead
from etude.train.recipes import Train
from etude.train.trainer import Trainer


def background() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_each_is_made_once_and_in_order():
    made: list[int] = []
    ahead = Ahead(lambda number: made.append(number) or 10 * number, steps=5)
    assert [ahead.take(number) for number in range(5)] == [0, 10, 20, 30, 40]
    assert made == [0, 1, 2, 3, 4], "nothing beyond the last step"
    ahead.close()


def test_the_next_is_made_while_this_one_is_used():
    second = threading.Event()
    ahead = Ahead(lambda number: second.set() if number == 1 else None, steps=2)
    ahead.take(0)
    assert second.wait(10)
    ahead.close()


@pytest.mark.parametrize("order", [[3, 4, 0, 1], [2, 2, 2], [5, 1, 0]])
def test_any_order(order: list[int]):
    ahead = Ahead(lambda number: number, steps=6)
    assert [ahead.take(number) for number in order] == order
    ahead.close()


def test_an_error_comes_up_where_it_is_asked_for():
    def make(number: int) -> int:
        if number == 1:
            raise ValueError("batch 1")
        return number

    ahead = Ahead(make, steps=3)
    assert ahead.take(0) == 0
    with pytest.raises(ValueError, match="batch 1"):
        ahead.take(1)
    assert ahead.take(2) == 2
    ahead.close()


def test_closing_ends_the_thread_and_taking_begins_another():
    before = len(background())
    ahead = Ahead(lambda number: number, steps=9)
    ahead.take(0)
    assert len(background()) == before + 1
    ahead.close()
    ahead.close()
    assert len(background()) == before
    assert ahead.take(4) == 4
    ahead.close()
    assert len(background()) == before


def test_without_a_thread():
    made: list[int] = []
    ahead = Ahead(lambda number: made.append(number) or number, steps=5, apart=False)
    before = len(background())
    assert [ahead.take(number) for number in (0, 1, 4)] == made == [0, 1, 4]
    assert len(background()) == before
    ahead.close()


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etude.train.trainer.Ahead", lambda make, steps, apart: Ahead(make, steps))


@pytest.mark.usefixtures("as_on_a_gpu")
def test_a_training_is_the_same_and_leaves_no_thread(
    tiny: Callable[..., Train], trained: Callable[[Train], Run], lab: Lab, monkeypatch: pytest.MonkeyPatch
):
    made: list[int] = []
    recipe = tiny(model={"dropout": 0.1})
    whole, batch, before = trained(recipe), Trainer.batch, len(background())
    monkeypatch.setattr(Trainer, "batch", lambda self, number: made.append(number) or batch(self, number))
    assert differences(whole, lab.run(recipe)) == {}
    assert made == list(range(12))
    assert len(background()) == before


@pytest.mark.usefixtures("as_on_a_gpu")
def test_a_training_that_dies_leaves_no_thread(tiny: Callable[..., Train], lab: Lab, monkeypatch: pytest.MonkeyPatch):
    batch, before = Windows.batch, len(background())

    def torn(self: Windows, indices: np.ndarray, draw: int = 0) -> Batch:
        if draw == 5:
            raise OSError("the disk is gone")
        return batch(self, indices, draw)

    monkeypatch.setattr(Windows, "batch", torn)
    with pytest.raises(OSError, match="the disk is gone"):
        lab.run(tiny())
    assert len(background()) == before
    monkeypatch.setattr(Windows, "batch", batch)
    assert lab.run(tiny()).result["steps"] == 12
