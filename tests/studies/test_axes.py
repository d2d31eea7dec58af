"""How the axes of a sweep are read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude.core.errors import UsageError
from etude.core.spec import Spec, cosmetic
from etude.core.within import changed, place, places
from etude.studies.sections.axes import Axis, joined, read_axes
from etude.train.optimisers.adamw import AdamW
from etude.train.optimisers.base import Optimiser


@dataclass(frozen=True)
class Inner(Spec):
    rate: float = 0.1
    shape: Literal["round", "square"] = "round"


@dataclass(frozen=True)
class Outer(Spec):
    inner: Inner = field(default_factory=Inner)
    optimiser: Optimiser = field(default_factory=lambda: AdamW(beta2=0.9))
    count: int = 3
    few: int | None = None
    rate: float = 1.0
    on: bool = False
    word: str = "a"
    many: tuple[int, ...] = (1, 2)
    where: str = cosmetic("here")


def axis(text: str) -> Axis:
    return read_axes([text], Outer())[0]


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("count=1,2", (1, 2)),
        ("count=1e3", (1000,)),
        ("inner.rate=1,2e-3", (1.0, 0.002)),
        ("inner.rate=0..1:3", (0.0, 0.5, 1.0)),
        ("inner.rate=1e-4..1e-2:log:3", (1e-4, 1e-3, 1e-2)),
        ("inner.rate=1e-4..1e-2:3:log", (1e-4, 1e-3, 1e-2)),
        ("count=16..256:log:5", (16, 32, 64, 128, 256)),
        ("count=1..3:10", (1, 2, 3)),
        ("inner.shape=round,square", ("round", "square")),
        ("few=none,4", (None, 4)),
        ("on=yes,no", (True, False)),
        ("word=a/b,../c", ("a/b", "../c")),
        ("optimiser=adamw", (AdamW(beta2=0.9),)),
    ],
)
def test_what_an_axis_takes(text, settings):
    assert axis(text).spelled() == tuple((value,) for value in settings)


def test_whole_numbers_between_are_spelled_out():
    assert axis("count=2..5").spelled() == ((2,), (3,), (4,), (5,))
    assert axis("count=2..5").count() == 4
    assert axis("rate=2..5").count() == math.inf


def test_fields_go_together():
    found = axis("count/inner.rate=1/0.5,2/0.25")
    assert found.name == "count/inner.rate"
    assert found.settings == ((1, 0.5), (2, 0.25))
    assert found.written(found.settings[1]) == "2/0.25"
    assert found.number(found.settings[0]) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("count", "the axis 'count' has no values: write count=16,32"),
        ("count=", "the axis 'count=' has no values"),
        ("cuont=1,2", "unknown field 'cuont' of Outer: did you mean 'count'?"),
        ("shape=round", "unknown field 'shape' of Outer: did you mean 'inner.shape'?"),
        (
            "inner.size=1",
            r"unknown field 'inner.size' of Outer: did you mean 'inner.shape'. There are: inner.rate, inner.shape\.",
        ),
        ("count=1.5", "count '1.5' is not a whole number"),
        ("count=one..2", "count 'one' is not a whole number"),
        ("few=none..2", "few 'none' is not|'none' is no end of a range"),
        ("inner.shape=rond", "unknown inner.shape 'rond': did you mean 'round'?"),
        ("optimiser=adam", "unknown optimiser 'adam': did you mean 'adamw'?"),
        ("count=2,2", "names 2 twice"),
        ("inner.rate=1,1.0", "names 1 twice"),
        ("rate=2..1", "the range of the axis 'rate=2..1' is empty"),
        ("rate=0..1:log", "starts at 0, and equal ratios need a start above 0"),
        ("rate=1..2:lg", "'lg' in the axis 'rate=1..2:lg' is not understood"),
        ("rate=1..2:1", "is not understood"),
        ("rate=1..2:3:4", "is not understood"),
        ("count/rate=1", "'1' in the axis 'count/rate=1' gives 1 values for 2 fields"),
        ("inner=1", "inner of Outer takes no single value; set one of its fields: inner.rate, inner.shape"),
        ("many=1", "many of Outer takes no single value; it takes several values, or a run"),
        ("where=there", "where cannot change the outcome of Outer"),
    ],
)
def test_what_cannot_be_read_is_said(text, words):
    with pytest.raises(UsageError, match=words):
        axis(text)


def test_a_field_is_on_one_axis_alone():
    with pytest.raises(UsageError, match="count is on two axes"):
        read_axes(["count=1,2", "rate/count=1/3"], Outer())
    with pytest.raises(UsageError, match="a sweep needs an axis"):
        read_axes([], Outer())


@given(st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=4), min_size=1, max_size=4))
def test_axes_cut_at_commas_are_joined_again(found: list[list[int]]):
    whole = [f"a{n}={','.join(map(str, numbers))}" for n, numbers in enumerate(found)]
    assert joined(piece for text in whole for piece in text.split(",")) == tuple(whole) == joined(whole)


ENDS = st.tuples(st.floats(1e-6, 1e6), st.floats(1.5, 1e3))


@given(ENDS, st.booleans(), st.floats(0, 1, exclude_max=True), st.integers(2, 9))
def test_shares_and_steps_stay_inside_the_range(ends: tuple[float, float], log: bool, share: float, count: int):
    low, high = float(f"{ends[0]:.3g}"), float(f"{ends[0] * ends[1]:.3g}")
    mark = ":log" if log else ""
    drawn = axis(f"rate={low!r}..{high!r}{mark}")
    assert low <= drawn.at(share)[0] <= high
    steps = [setting[0] for setting in axis(f"rate={low!r}..{high!r}{mark}:{count}").spelled()]
    assert steps[0] == low and steps[-1] == high and steps == sorted(steps)


@given(st.integers(-50, 50), st.integers(1, 100), st.floats(0, 1, exclude_max=True), st.booleans())
def test_whole_numbers_are_drawn_whole_and_both_ends_come(low: int, more: int, share: float, log: bool):
    if log and low < 1:
        low = 1
    drawn = axis(f"count={low}..{low + more}" + (":log" if log else ""))
    (number,) = drawn.at(share)
    assert isinstance(number, int) and low <= number <= low + more
    assert drawn.at(0.0) == (low,) and drawn.at(1 - 1e-12) == (low + more,)


def test_edges_are_those_of_three_or_more_and_of_ranges():
    three, two, open_ended = axis("rate=1,2,4"), axis("rate=1,2"), axis("rate=1..100:log")
    assert [three.edge((n,)) for n in (1.0, 2.0, 4.0)] == ["lowest", "", "highest"]
    assert [two.edge((n,)) for n in (1.0, 2.0)] == ["", ""]
    assert [open_ended.edge((n,)) for n in (1.1, 10.0, 97.0)] == ["lowest", "", "highest"]
    assert axis("word=a,b,c").edge(("a",)) == ""
    assert three.beyond("highest") == ((6.0,), (8.0,))
    assert axis("count=16,32,64").beyond("lowest") == ((15,), (0,), (8,))


def test_places_are_found_read_and_changed_together():
    found: Mapping[str, object] = {each.name: each.held for each in places(Outer())}
    assert found["inner.rate"] == 0.1 and found["optimiser.beta2"] == 0.9
    assert place(Outer(), "--inner.rate").path == ("inner", "rate")
    new = changed(Outer(), {("optimiser",): AdamW(), ("optimiser", "beta1"): 0.5, ("count",): 7})
    assert new == Outer(optimiser=AdamW(beta1=0.5), count=7)
    with pytest.raises(UsageError, match="unknown field 'beta9' of adamw"):
        changed(Outer(), {("optimiser", "beta9"): 1.0})
