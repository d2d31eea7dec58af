"""The learning rate: the papers' formulas, and what holds for any schedule."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude.core.errors import UsageError
from etude.train.schedule import Schedule

peaks = st.floats(1e-6, 10.0)


@pytest.mark.parametrize("step", [1, 10, 3999, 4000, 4001, 100_000])
def test_noam_is_the_formula_of_2017(step: int):
    expected = 512**-0.5 * min(step**-0.5, step * 4000**-1.5)  # Vaswani et al. 2017, equation 3
    assert Schedule("noam", peak=1.0, warmup=4000).rate(step - 1, 200_000, width=512) == pytest.approx(
        expected, rel=1e-12
    )


def test_noam_is_highest_where_its_warm_up_ends():
    schedule = Schedule("noam", peak=1.0, warmup=50)
    rates = [schedule.rate(step, 400, width=64) for step in range(400)]
    assert rates.index(max(rates)) == 49
    assert max(rates) == pytest.approx((64 * 50) ** -0.5)


def test_cosine_at_its_ends_and_half_way():
    schedule = Schedule("cosine", peak=2.0, warmup=10, floor=0.1)
    rates = [schedule.rate(step, 110, width=1) for step in range(110)]
    assert rates[:3] == pytest.approx([0.2, 0.4, 0.6])
    assert rates[9] == 2.0
    assert rates[59] == pytest.approx((2.0 + 0.2) / 2)
    assert rates[-1] == pytest.approx(0.2)
    assert rates[24] == pytest.approx(0.2 + 1.8 * 0.5 * (1 + math.cos(math.pi * 0.15)))


def test_linear_at_its_ends_and_half_way():
    schedule = Schedule("linear", peak=2.0, warmup=10, floor=0.1)
    rates = [schedule.rate(step, 110, width=1) for step in range(110)]
    assert rates[:3] == pytest.approx([0.2, 0.4, 0.6])
    assert rates[9] == 2.0
    assert rates[59] == pytest.approx((2.0 + 0.2) / 2)
    assert rates[-1] == pytest.approx(0.2)
    assert {round(a - b, 12) for a, b in itertools.pairwise(rates[9:])} == {0.018}


def test_wsd_at_its_ends_and_within_its_fall():
    schedule = Schedule("wsd", peak=2.0, warmup=10, floor=0.0, decay=0.25)
    rates = [schedule.rate(step, 400, width=1) for step in range(400)]
    assert rates[:3] == pytest.approx([0.2, 0.4, 0.6])
    assert set(rates[9:300]) == {2.0}
    assert rates[300] == pytest.approx(2.0 * (1 - 0.01**0.5))  # Hägele et al. 2024, equation 1
    assert rates[324] == pytest.approx(1.0)
    assert rates[-1] == 0.0
    straight = dataclasses.replace(schedule, fall="linear")
    assert straight.rate(349, 400, width=1) == pytest.approx(1.0)
    assert straight.rate(399, 400, width=1) == 0.0


@pytest.mark.parametrize(("steps", "longer"), [(100, 101), (100, 1000), (37, 90)])
@pytest.mark.parametrize("fall", ["sqrt", "linear"])
def test_a_longer_wsd_shares_all_but_the_fall(fall, steps: int, longer: int):
    schedule = Schedule("wsd", peak=0.3, warmup=7, decay=0.2, fall=fall)
    shared = steps - round(0.2 * steps)
    short, long = ([schedule.rate(step, n, width=1) for step in range(shared)] for n in (steps, longer))
    assert short == long
    assert schedule.rate(shared, steps, width=1) < schedule.rate(shared - 1, steps, width=1)


@given(warmup=st.integers(0, 99), floor=st.floats(0, 1), decay=st.floats(0.01, 1))
def test_the_whole_of_the_rates_is_the_integral(warmup: int, floor: float, decay: float):
    """What is under each curve, by its closed form; a sum over 100 per unit misses it by half a step's change."""
    steps = 1000
    after, falling = steps - warmup, min(steps - warmup, round(decay * steps))
    forms: dict[tuple[Any, Any], float] = {
        ("linear", "sqrt"): after * (1 + floor) / 2,
        ("cosine", "sqrt"): after * (1 + floor) / 2,
        ("wsd", "linear"): after - falling + falling * (1 + floor) / 2,
        ("wsd", "sqrt"): after - falling + falling * (floor + (1 - floor) / 3),
        ("constant", "sqrt"): after,
    }
    for (shape, fall), form in forms.items():
        schedule = Schedule(shape, 1.0, warmup, floor, decay, fall)
        total = sum(schedule.rate(step, steps, width=1) for step in range(steps))
        assert total == pytest.approx(warmup / 2 + form, abs=1.01), (shape, fall)


def test_a_wsd_with_little_room_falls_after_its_warm_up():
    schedule = Schedule("wsd", peak=1.0, warmup=8, floor=0.0, decay=0.9, fall="linear")
    assert [schedule.rate(step, 10, width=1) for step in range(10)] == pytest.approx(
        [1 / 8, 2 / 8, 3 / 8, 4 / 8, 5 / 8, 6 / 8, 7 / 8, 1.0, 0.5, 0.0]
    )


def test_constant_stays():
    rates = [Schedule("constant", peak=0.5, warmup=4).rate(step, 8, width=1) for step in range(8)]
    assert rates == [0.125, 0.25, 0.375, 0.5, 0.5, 0.5, 0.5, 0.5]


@given(
    shape=st.sampled_from(["cosine", "linear", "wsd", "noam", "constant"]),
    peak=peaks,
    warmup=st.integers(1, 60),
    floor=st.floats(0, 1),
    steps=st.integers(1, 200),
)
def test_it_rises_to_the_peak_falls_and_never_jumps(shape, peak: float, warmup: int, floor: float, steps: int):
    schedule = Schedule(shape, peak, warmup, floor)
    rates = [schedule.rate(step, steps, width=1) for step in range(steps)]
    assert all(0 <= rate <= peak * (1 + 1e-12) for rate in rates)
    rising, falling = rates[:warmup], rates[warmup - 1 :]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
    if shape == "wsd":  # the first step of its fall is the steepest: the root of one part of n
        return
    # Warming up, a step is a warmup-th of the top; a cosine over n steps falls by at most pi / 2n of its height a step,
    # a line by 1 / n.
    top = peak * (warmup**-0.5 if shape == "noam" else 1.0)
    largest = top * max(1 / warmup, math.pi / 2 / max(1, steps - warmup) if shape in ("cosine", "linear") else 0.0)
    assert all(abs(b - a) <= largest * (1 + 1e-9) for a, b in itertools.pairwise(rates))


@pytest.mark.parametrize("shape", ["cosine", "linear", "wsd"])
@given(peak=peaks, floor=st.floats(0, 1), steps=st.integers(1, 50))
def test_no_warm_up_starts_at_once(shape, peak: float, floor: float, steps: int):
    schedule = Schedule(shape, peak, warmup=0, floor=floor)
    assert schedule.rate(steps - 1, steps, width=1) == pytest.approx(peak * floor)
    assert schedule.rate(0, 10_000, width=1) == pytest.approx(peak, rel=2e-4)


@pytest.mark.parametrize("shape", ["cosine", "linear", "wsd"])
def test_a_training_shorter_than_its_warm_up_only_rises(shape):
    schedule = Schedule(shape, peak=1.0, warmup=100)
    rates = [schedule.rate(step, 10, width=1) for step in range(10)]
    assert rates == pytest.approx([(step + 1) / 100 for step in range(10)])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"peak": 0.0}, "peak 0.0"),
        ({"peak": -1.0}, "peak must be over 0"),
        ({"warmup": -1}, "warmup -1"),
        ({"floor": 1.5}, "floor 1.5"),
        ({"shape": "noam", "warmup": 0}, "at least 1 step"),
        ({"decay": 0.0}, r"decay 0\.0 is not a share of the steps"),
        ({"decay": 1.5}, "over 0 and at most 1"),
        ({"fall": "cosine"}, "sqrt, linear"),
        ({"shape": "step"}, "cosine, linear, wsd, noam, constant"),
        ({"peak": math.nan}, "finite"),
    ],
)
def test_bad_values(fields: dict, message: str):
    with pytest.raises(UsageError, match=message):
        Schedule(**fields)
