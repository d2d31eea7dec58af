"""A record on its way into a tracker, with one made of lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude.report.trail import Trail, points


@dataclass
class Fake:
    """A follower whose rows the test puts in, and a tracker and its sink that keep what they are told."""

    run: str = "train-1"
    recipe: Mapping[str, Any] = field(default_factory=dict)
    is_done: bool = False
    coming: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    points: dict[int, dict[str, float]] = field(default_factory=dict)
    told: list[Any] = field(default_factory=list)
    name: str = "fake"
    place: str = "here"

    def rows(self) -> list[tuple[int, dict[str, Any]]]:
        taken, self.coming = self.coming, []
        return taken

    def open(self, run: str, recipe: Mapping[str, Any]) -> Fake:
        self.told.append(("open", run))
        return self

    def held(self) -> dict[int, dict[str, float]]:
        return {step: dict(values) for step, values in self.points.items()}

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self.told.append((step, dict(values)))
        self.points.setdefault(step, {}).update(values)

    def rewind(self, step: int) -> None:
        self.told.append(("rewind", step))
        self.points = {at: values for at, values in self.points.items() if at < step}

    def close(self, *, done: bool) -> None:
        self.told.append(("close", done))

    def come(self, *rows: dict[str, Any]) -> None:
        self.coming += list(enumerate(rows))


def rows(*steps: int, seconds: float = 1.0, shift: float = 0.0) -> list[dict[str, Any]]:
    return [{"step": s, "loss": 1 / (s + 1) + shift, "timing": {"per_second": seconds}} for s in steps]


def writes(fake: Fake) -> list[int]:
    return [told[0] for told in fake.told if isinstance(told[0], int)]


def trail(fake: Fake) -> Trail:
    return Trail(fake, fake)  # type: ignore[arg-type] # a double of both


def test_numbers_are_taken_with_their_steps_and_parts():
    found = points(
        [(0, {"step": 5, "loss": 1, "ok": True, "name": "x", "timing": {"per_second": 2.0}}), (7, {"loss": 3.0})]
    )
    assert found == {5: {"loss": 1.0, "timing/per_second": 2.0}, 7: {"loss": 3.0}}
    assert points([(0, {"step": 1, "a": 1}), (1, {"step": 1, "a": 2, "b": 3})]) == {1: {"a": 2, "b": 3}}
    assert points([(3, {"step": "first", "a": float("inf")})]) == {3: {}}


def test_a_run_without_numbers_is_never_opened():
    fake = Fake()
    fake.come({"words": "none"})
    trail(fake).go_on()
    assert fake.told == []


def test_started_again_it_writes_nothing_twice():
    fake = Fake()
    fake.come(*rows(0, 1, 2))
    first = trail(fake)
    assert first.go_on()
    first.close()
    assert writes(fake) == [0, 1, 2] and first.written == 6
    fake.come(*rows(0, 1, 2, 3))
    fake.is_done = True
    again = trail(fake)
    assert not again.go_on()
    again.close()
    assert writes(fake) == [0, 1, 2, 3] and again.written == 2
    assert fake.told[-1] == ("close", True)


def test_rows_that_were_dropped_and_logged_again_alike_are_passed_over():
    fake = Fake()
    way = trail(fake)
    fake.come(*rows(0, 1, 2, 3))
    way.go_on()
    fake.come(*rows(0, 1))  # the record begins anew, shorter
    way.go_on()
    fake.come(*rows(2, 3, 4, seconds=9.0))  # and the clock says something else
    way.go_on()
    assert writes(fake) == [0, 1, 2, 3, 4]
    assert ("rewind", 2) not in fake.told


def test_rows_that_come_again_with_other_values_take_the_old_ones_back():
    fake = Fake()
    way = trail(fake)
    fake.come(*rows(0, 1, 2, 3))
    way.go_on()
    fake.come(*rows(0, 1), *rows(2, 3, shift=0.5))
    way.go_on()
    assert ("rewind", 2) in fake.told and ("rewind", 3) not in fake.told
    assert {step: values["loss"] for step, values in fake.points.items()} == {0: 1, 1: 0.5, 2: 1 / 3 + 0.5, 3: 0.75}


ROWS = st.lists(st.tuples(st.integers(0, 6), st.floats(-5, 5, width=32)), max_size=20)


@given(ROWS, st.integers(0, 20), st.booleans())
def test_what_a_tracker_has_in_the_end_is_the_record(given_rows: list[tuple[int, float]], cut: int, restarts: bool):
    record = sorted(dict(given_rows).items())
    every = [{"step": step, "loss": loss} for step, loss in record]
    fake = Fake()
    way = trail(fake)
    fake.come(*every[:cut])
    way.go_on()
    fake.come(*every)
    (trail(fake) if restarts else way).go_on()
    assert fake.points == {step: {"loss": loss} for step, loss in record}
    assert len(writes(fake)) == len(record)


@pytest.mark.parametrize("shift", [0.0, 1e-9])
def test_single_precision_is_the_same_number(shift):
    import numpy as np

    fake = Fake(points={0: {"loss": float(np.float32(1 / 3))}})
    fake.come({"step": 0, "loss": 1 / 3 + shift})
    trail(fake).go_on()
    assert writes(fake) == []
