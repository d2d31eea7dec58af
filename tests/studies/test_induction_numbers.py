"""What is called a phase change and an induction head: curves whose answer is known, and the definition itself."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude.core.lab import Lab
from etude.evals.recipes import Heads
from etude.models.recipes import Planted
from etude.studies.sections.induction_numbers import (
    BEFORE,
    ENOUGH,
    LEAST,
    SHORT,
    induction_heads,
    stands_out,
    steepest,
)
from etude.text.corpora.fable import Fable
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte

STEPS = range(0, 1100, 100)


def test_a_sudden_rise_is_found_where_it_is():
    found = steepest(STEPS, [0, 0, 0, 0.1, 2.9, 3, 3, 3, 3, 3, 3])
    assert found is not None and found.sudden
    assert (found.start, found.end, found.share, found.total) == (300, 400, 0.1, 3)
    assert found.gained == pytest.approx(2.8 / 3)


@pytest.mark.parametrize("tau", [20, 60, 100, 150, 200, 300, 500])
def test_a_curve_that_starts_steep_and_flattens_out_is_no_phase_change(tau: float):
    found = steepest(STEPS, [4 * (1 - math.exp(-step / tau)) for step in STEPS])
    assert found is not None and found.start == 0 and found.before == 0 and not found.sudden
    assert tau > 200 or found.share <= SHORT, "for want of length alone it would have been one"


@pytest.mark.parametrize("middle", [300, 500, 650])
def test_a_sigmoid_is_a_phase_change_where_it_is_steep(middle: float):
    found = steepest(STEPS, [4 / (1 + math.exp((middle - step) / 30)) for step in STEPS])
    assert found is not None and found.sudden and found.start < middle < found.end
    slow = steepest(STEPS, [4 / (1 + math.exp((middle - step) / 200)) for step in STEPS])
    assert slow is not None and not slow.sudden


@pytest.mark.parametrize(("before", "expected"), [(BEFORE - 0.01, True), (BEFORE + 0.01, False)])
def test_little_of_the_rise_may_come_before_a_phase_change(before: float, expected: bool):
    found = steepest(STEPS, [4 * part for part in (0, before / 2, before, before, before + 0.65, *[1] * 6)])
    assert found is not None and (found.start, found.end) == (300, 400)
    assert found.before == pytest.approx(before) and found.sudden is expected


def test_a_slow_rise_is_no_phase_change():
    found = steepest(STEPS, [n / 10 * 4 for n in range(11)])
    assert found is not None and not found.sudden
    assert found.share == pytest.approx(ENOUGH), "of a straight line, as much of the training as of the rise"


def test_a_sudden_rise_of_next_to_nothing_is_no_phase_change():
    found = steepest(STEPS, [0, 0, 0, LEAST * 0.99, *[LEAST * 0.99] * 7])
    assert found is not None and found.share <= SHORT and not found.sudden
    enough = steepest(STEPS, [0, 0, 0, LEAST, *[LEAST] * 7])
    assert enough is not None and enough.sudden


@pytest.mark.parametrize("values", [[1.0] * 11, [0, 5, *[3] * 8, 0], [n / -10 for n in range(11)]])
def test_where_nothing_rose_in_the_end_there_is_no_stretch(values: list[float]):
    assert steepest(STEPS, values) is None


def test_of_two_stretches_as_short_the_steeper_is_told():
    found = steepest([0, 1, 2, 3], [0, 0.7, -0.2, 1])
    assert found is not None and (found.start, found.end) == (2, 3)


def test_what_rises_past_the_end_and_falls_back_gains_more_than_all():
    found = steepest([0, 1, 2, 10], [0, 0, 4, 2])
    assert found is not None and found.gained == 2 and found.total == 2


CURVES = st.lists(
    st.tuples(st.integers(1, 50), st.floats(-5, 5, allow_nan=False).map(lambda x: round(x, 3))), min_size=2, max_size=12
)


@given(CURVES)
def test_the_stretch_holds_enough_of_the_rise_and_no_shorter_one_does(points: list[tuple[int, float]]):
    steps, at = [], 0
    for gap, _ in points:
        steps.append(at)
        at += gap
    values = [value for _, value in points]
    found, total = steepest(steps, values), values[-1] - values[0]
    if total <= 0:
        assert found is None
        return
    assert found is not None and found.gained >= ENOUGH
    first, last = steps.index(found.start), steps.index(found.end)
    assert found.gained == pytest.approx((values[last] - values[first]) / total)
    assert found.share == pytest.approx((found.end - found.start) / steps[-1])
    for a in range(len(steps)):
        for b in range(a + 1, len(steps)):
            if steps[b] - steps[a] < found.end - found.start:
                assert (values[b] - values[a]) / total < ENOUGH


# Heads


def head(induction: float, off: float | None, reach: float = 0.01, n: int = 9) -> dict[str, Any]:
    def estimate(mean: float) -> dict[str, Any]:
        return {"mean": mean, "low": mean - reach, "high": mean + reach, "n": n}

    return {"induction": estimate(induction), "off_period": None if off is None else estimate(off)}


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (head(0.9, 0.0), True),
        (head(0.9, None), True),
        (head(0.22, 0.0), True),
        (head(0.205, 0.0), False),  # twice even attention is within the interval
        (head(0.15, 0.0), False),
        (head(0.5, 0.5), False),  # a fixed distance
        (head(0.5, 0.3), False),  # much of it is a likely distance
        (head(0.5, 0.24), False),  # twice that is within the interval
        (head(0.5, 0.22), True),
        (head(0.9, 0.0, n=1), False),  # one sequence has no interval
    ],
)
def test_a_head_stands_out_from_even_attention_and_from_a_fixed_distance(one: dict[str, Any], expected: bool):
    assert stands_out(one, "induction", 0.1) is expected


def test_for_other_kinds_a_fixed_distance_is_what_is_meant():
    one = head(0.9, 0.9) | {"previous": head(0.9, None)["induction"]}
    assert stands_out(one, "previous", 0.1) and not stands_out(one, "induction", 0.1)


def test_a_head_is_compared_with_what_its_own_layer_sees():
    one = head(0.35, 0.0)
    assert stands_out(one, "induction", 0.1) and stands_out(one | {"chance": 0.1}, "induction", 0.2)
    assert not stands_out(one | {"chance": 0.2}, "induction", 0.1)


@pytest.mark.parametrize("back", [0, 9])
def test_of_the_planted_circuit_the_induction_head_alone_is_found(back: int, tmp_path: Path):
    """With `back`, L0H1 looks where induction would if every period were 10: some of these are."""
    of = Planted(length=24, back=back, data=Tokens(Fable(stories=40), Byte()))
    assert induction_heads(Lab(tmp_path, threads=1, quiet=True).run(Heads(of, sequences=32))) == ["L1H0"]
