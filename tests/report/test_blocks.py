from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude.core.errors import UsageError
from etude.report.blocks import (
    Attention,
    Chart,
    Details,
    Finding,
    Heatmap,
    Link,
    Report,
    RunCard,
    RunRef,
    Section,
    Table,
    Value,
    lasted,
    text,
    walk,
)
from etude.report.inline import written

CARD = RunCard("train-3fa2c1", {"kind": "train"})
ORPHAN = Value(1.5, run="train-lost", label="loss")


@pytest.mark.parametrize(
    ("number", "digits", "shown"),
    [
        (1.23456, 3, "1.235"),
        (1.5, 0, "2"),
        (1_254_912, 3, "1,254,912"),
        (12345.678, 1, "12,345.7"),
        (0.0, 2, "0.00"),
        (0.0004, 3, "4.00e-4"),
        (-3.2e12, 3, "-3.20e12"),
        (None, 3, "–"),
        (math.nan, 3, "not a number"),
        (-math.inf, 3, "-∞"),
    ],
)
def test_numbers_are_written_the_same_everywhere(number, digits, shown):
    assert written(number, digits) == shown


@given(st.floats(-1e300, 1e300), st.integers(0, 6))
def test_a_written_number_reads_back_within_its_digits(number, digits):
    back = float(written(number, digits).replace(",", ""))
    assert math.isclose(back, number, rel_tol=0.6 * 10.0 ** -max(digits - 1, 1), abs_tol=0.5001 * 10.0**-digits)


def test_a_value_knows_its_interval_and_its_runs():
    value = Value(np.float32(2.5), 2, 3, run=["a", "b"], unit="nats", digits=1)  # type: ignore[arg-type]
    assert (value.shown + value.measure, value.interval, value.runs) == ("2.5 nats", "[2, 3]", ("a", "b"))
    assert Value(12.5, unit="%", digits=1).measure == "%"
    assert isinstance(value.value, float) and hash(value)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Value(1.0, low=0.5), "one end only"),
        (lambda: Value(1.0, 2.0, 0.5), "upside down"),
        (lambda: Value("1.0"), "not a number"),  # type: ignore[arg-type]
        (lambda: Value(True), "not a number"),
        (lambda: Value(1.0, run="a b"), "not a run's id"),
        (lambda: RunRef('"><script>'), "not a run's id"),
        (lambda: Link("here", "javascript:alert(1)"), "not an address"),
        (lambda: text("loss ", 1.5), "wrap a number in Value"),  # type: ignore[arg-type]
        (lambda: Section("A", ("words",)), "wrap words in text"),  # type: ignore[arg-type]
        (lambda: Details("A", (CARD,)), "not a block"),  # type: ignore[arg-type]
        (lambda: Finding(text("x"), "sure"), "There are: clear, none, uncertain"),
        (lambda: Table(("a", "b"), ((1,),)), "1 cells and the table 2 columns"),
        (lambda: Table(("loss",), ((1,),), lowest=("los",)), "did you mean 'loss'"),
        (lambda: Chart({"mark": "line"}, "c", " "), "no alt text"),
        (lambda: Chart({"data": {"url": "https://x.org/a.csv"}}, "c", "a"), "loads nothing"),
        (lambda: Heatmap(np.zeros((2, 3)), ("a", "b"), ("c",), "", ""), "heatmap of 2x3 has 2 row and 1 column"),
        (lambda: Attention(("a",), np.zeros((1, 1, 2, 2)), ""), "do not fit 1 tokens"),
        (lambda: Attention(("a",), np.full((1, 1, 1, 1), 7.0), ""), "after the softmax"),
        (lambda: Attention(("a",), np.ones((1, 1, 1, 1)), "", layers=("x", "y")), "2 layer names for 1"),
    ],
)
def test_what_cannot_be_is_refused_with_a_line(build, words):
    with pytest.raises(UsageError, match=words) as error:
        build()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "place",
    [
        lambda v: Report("R", question=text(v), runs=(CARD,)),
        lambda v: Report("R", abstract=(text("loss ", v),), runs=(CARD,)),
        lambda v: Report("R", sections=(Section("S", (Section("T", (Table(("a",), ((v,),)),)),)),), runs=(CARD,)),
        lambda v: Report("R", sections=(Section("S", (Details("d", (text(v),)),)),), runs=(CARD,)),
        lambda v: Report("R", sections=(Section("S", (Chart({}, text(v), "alt"),)),), runs=(CARD,)),
    ],
)
def test_a_number_whose_run_has_no_card_is_refused(place):
    with pytest.raises(UsageError, match=r"value 1\.500 \(loss\) comes from the run 'train-lost'.*Cards: train-3fa2c1"):
        place(ORPHAN)
    place(Value(1.5, run="train-3fa2c1"))


def test_figures_and_links_need_a_card_too():
    for block in (Chart({}, "", "alt", runs=("train-lost",)), text(RunRef("train-lost"))):
        with pytest.raises(UsageError, match="train-lost"):
            Report("R", abstract=(block,))
    with pytest.raises(UsageError, match="two cards"):
        Report("R", runs=(CARD, CARD))


def test_the_best_cells_are_those_whose_interval_reaches_the_best():
    rows = ((Value(1.0, 0.9, 1.1),), (Value(1.15, 1.05, 1.2),), (Value(1.5, 1.4, 1.6),), (None,), (math.nan,))
    assert Table(("loss",), rows, lowest=("loss",)).best() == {(0, 0), (1, 0)}
    assert Table(("score",), rows, highest=("score",)).best() == {(2, 0)}


def test_a_column_is_numeric_when_all_it_holds_are_numbers():
    table = Table(("a", "b", "c", "d"), ((1, "x", None, True), (Value(2.0), 2, None, False)))
    assert [table.is_numeric(c) for c in range(4)] == [True, False, False, False]


def test_walk_reaches_values_in_captions_and_cells():
    table = Table(("a",), ((Value(1),),), caption=text(Value(2)))
    assert [n.value for n in walk(Section("S", (table,), intro=text(Value(3)))) if isinstance(n, Value)] == [1, 2, 3]


def test_times_are_said_as_a_person_says_them():
    assert [lasted(s) for s in (None, 3.21, 59.97, 200, 7500)] == ["", "3.2 s", "1 min 0 s", "3 min 20 s", "2 h 5 min"]
