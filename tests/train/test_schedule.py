"""The learning rate: the papers' formulas, and what holds for any schedule."""

from __future__ import annotations

import itertools
import math

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


def test_constant_stays():
    rates = [Schedule("constant", peak=0.5, warmup=4).rate(step, 8, width=1) for step in range(8)]
    assert rates == [0.125, 0.25, 0.375, 0.5, 0.5, 0.5, 0.5, 0.5]


@given(
    shape=st.sampled_from(["cosine", "noam", "constant"]),
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
    # Warming up, a step is a warmup-th of the top; a cosine over n steps falls by at most pi / 2n of its height a step.
    top = peak * (warmup**-0.5 if shape == "noam" else 1.0)
    largest = top * max(1 / warmup, math.pi / 2 / max(1, steps - warmup) if shape == "cosine" else 0.0)
    assert all(abs(b - a) <= largest * (1 + 1e-9) for a, b in itertools.pairwise(rates))


@given(peak=peaks, floor=st.floats(0, 1), steps=st.integers(1, 50))
def test_no_warm_up_starts_at_once(peak: float, floor: float, steps: int):
    schedule = Schedule("cosine", peak, warmup=0, floor=floor)
    assert schedule.rate(steps - 1, steps, width=1) == pytest.approx(peak * floor)
    assert schedule.rate(0, 10_000, width=1) == pytest.approx(peak, rel=1e-6)


def test_a_training_shorter_than_its_warm_up_only_rises():
    schedule = Schedule("cosine", peak=1.0, warmup=100)
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
        ({"shape": "linear"}, "cosine, noam, constant"),
        ({"peak": math.nan}, "finite"),
    ],
)
def test_bad_values(fields: dict, message: str):
    with pytest.raises(UsageError, match=message):
        Schedule(**fields)
