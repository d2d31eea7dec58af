"""Intervals: they cover what they say, and pairs are sharper."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from etude.evals.statistics import Estimate, mean, paired, ratio


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=50))
def test_a_mean_is_scipys(values: list[float]):
    found, array = mean(np.array(values)), np.array(values)
    assert found.mean == pytest.approx(array.mean(), abs=1e-9)
    reach = stats.t.ppf(0.975, len(values) - 1) * array.std(ddof=1) / len(values) ** 0.5
    assert (found.low, found.high) == pytest.approx((array.mean() - reach, array.mean() + reach), abs=1e-7)
    assert found.n == len(values)


def test_the_interval_of_a_share_ends_where_a_share_does():
    for right in (np.array([1.0] * 20 + [0.0]), np.array([0.0] * 20 + [1.0])):
        found = ratio(right, np.ones(21))
        share = found.as_share()
        assert found.low < 0 or found.high > 1
        assert (share.mean, share.n) == (found.mean, 21)
        assert (share.low, share.high) == (max(found.low, 0), min(found.high, 1))


def test_a_ratio_is_the_delta_methods():
    generator = np.random.default_rng(0)
    counts = generator.integers(1, 40, 500)
    sums = counts * 2.0 + generator.normal(0, 3, 500)
    found = ratio(sums, counts)
    rate = sums.sum() / counts.sum()
    variance = np.var(sums, ddof=1) + rate**2 * np.var(counts, ddof=1) - 2 * rate * np.cov(sums, counts)[0, 1]
    reach = stats.t.ppf(0.975, 499) * np.sqrt(variance / 500) / counts.mean()
    assert found.mean == pytest.approx(rate)
    assert found.high - found.mean == pytest.approx(reach, rel=1e-6)
    assert found.mean - found.low == pytest.approx(reach, rel=1e-6)


@pytest.mark.parametrize("windows", [3, 10, 200])
def test_intervals_hold_the_truth_19_times_in_20(windows: int):
    """Windows of random length whose tokens depend on each other: each shares an offset of its own."""
    generator, hits, times = np.random.default_rng(windows), 0, 2000
    for _ in range(times):
        counts = generator.integers(20, 31, windows)
        offsets = generator.normal(0, 1, windows)
        sums = counts * (5.0 + offsets) + generator.normal(0, 1, windows) * np.sqrt(counts)
        found = ratio(sums, counts)
        hits += found.low <= 5.0 <= found.high
    assert hits / times == pytest.approx(0.95, abs=0.02)


def test_pairs_are_sharper_where_windows_differ_alike():
    generator = np.random.default_rng(1)
    counts = np.full(300, 10)
    shared = generator.normal(20, 5, 300)
    a, b = shared + generator.normal(0.5, 0.1, 300), shared + generator.normal(0, 0.1, 300)
    pair, one, other = paired(a, b, counts), ratio(a, counts), ratio(b, counts)
    assert pair.mean == pytest.approx(one.mean - other.mean)
    assert pair.high - pair.low < (one.high - one.low) / 20
    assert pair.excludes_zero
    assert one.low < other.high, "apart, their intervals overlap"


def test_windows_without_tokens_count_for_nothing():
    assert ratio(np.array([4.0, 0.0, 8.0]), np.array([2, 0, 2])) == ratio(np.array([4.0, 8.0]), np.array([2, 2]))


def test_one_window_gives_a_number_and_no_certainty():
    found = ratio(np.array([6.0]), np.array([2]))
    assert found == Estimate(3.0, 3.0, 3.0, 1)
    assert not found.excludes_zero


def test_no_tokens_at_all():
    with pytest.raises(ValueError, match="no tokens"):
        ratio(np.zeros(3), np.zeros(3))


def test_another_unit():
    found = Estimate(2.0, 1.0, 4.0, 9)
    assert found.scaled(3.0) == Estimate(6.0, 3.0, 12.0, 9)
    assert found.scaled(-1.0) == Estimate(-2.0, -4.0, -1.0, 9)
    assert found.to_json() == {"mean": 2.0, "low": 1.0, "high": 4.0, "n": 9}


@pytest.mark.parametrize(("low", "high", "excludes"), [(0.1, 1, True), (-1, -0.1, True), (-1, 1, False), (0, 1, False)])
def test_excluding_zero(low: float, high: float, excludes: bool):
    assert Estimate((low + high) / 2, low, high, 5).excludes_zero is excludes


@pytest.mark.parametrize("n", [1, 2])
def test_reading_back_keeps_what_one_window_cannot_say(n: int) -> None:
    told = {**Estimate(0.5, 0.5, 0.5, n).to_json(), "against": "bigram"}
    found = Estimate.from_json(told)
    assert found == Estimate(0.5, 0.5, 0.5, n)
    assert found.excludes_zero == found.above(0) == found.below(1) == (n > 1)
    assert not found.above(0.5) and not found.below(0.5)
