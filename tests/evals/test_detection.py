"""Areas under curves, shares and calibration, against other ways to the same numbers and against planted truths."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import brier_score_loss, roc_auc_score

from etude.evals.detection import auc, calibration, difference, share


def drawn(seed: int, m: int, n: int, apart: float, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    scores = np.concatenate([random.normal(apart, 1, m), random.normal(0, 1, n)])
    return (np.round(scores) if ties else scores), np.repeat([True, False], [m, n])


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("m", "n"), [(40, 60), (7, 200), (1, 5), (3, 1)])
def test_the_area_is_that_of_scikit_learn_and_of_all_pairs(m: int, n: int, ties: bool) -> None:
    scores, positive = drawn(3, m, n, 1.0, ties)
    found = auc(scores, positive)
    pairs = [(a > b) + (a == b) / 2 for a, b in itertools.product(scores[positive], scores[~positive])]
    assert found.mean == pytest.approx(roc_auc_score(positive, scores)) == pytest.approx(np.mean(pairs))
    assert 0 <= found.low <= found.mean <= found.high <= 1 and found.n == m + n


def test_the_variance_is_delongs_by_pairs() -> None:
    scores, positive = drawn(5, 30, 45, 0.8)
    found = auc(scores, positive)
    wins = (scores[positive][:, None] > scores[~positive]).astype(float)
    error = np.sqrt(wins.mean(1).var(ddof=1) / 30 + wins.mean(0).var(ddof=1) / 45)
    at = norm.ppf(0.975) * error / (found.mean * (1 - found.mean))
    ends = 1 / (1 + np.exp(-(np.log(found.mean / (1 - found.mean)) + np.array([-at, at]))))
    assert (found.low, found.high) == pytest.approx(tuple(ends))


def test_the_interval_covers_the_truth() -> None:
    truth = norm.cdf(1.2 / np.sqrt(2))
    held = [auc(*drawn(seed, 25, 60, 1.2)) for seed in range(400)]
    assert 0.92 <= np.mean([one.low <= truth <= one.high for one in held]) <= 0.985


def test_what_is_apart_altogether_is_not_certain() -> None:
    found = auc(np.array([3.0, 4, 5, 1, 2]), np.array([1, 1, 1, 0, 0], bool))
    assert (found.mean, found.high) == (1, 1) and found.low == pytest.approx(0.025**0.5)
    assert auc(np.array([1.0, 2, 3, 4, 5]), np.array([1, 1, 0, 0, 0], bool)).high == pytest.approx(1 - 0.025**0.5)
    flat = auc(np.zeros(9), np.arange(9) < 4)
    assert (flat.mean, flat.low, flat.high) == (0.5, 0.5, 0.5) and not flat.above(0.5)
    with pytest.raises(ValueError, match="both kinds"):
        auc(np.ones(3), np.ones(3, bool))


def test_shares_have_wilsons_interval() -> None:
    found = share(8, 10)
    assert (found.low, found.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # Newcombe 1998, table I's method 3
    assert share(0, 12).low == 0 < share(0, 12).high < 0.25 and share(12, 12).high == 1
    with pytest.raises(ValueError):
        share(0, 0)


def test_differences_are_newcombes() -> None:
    found = difference((56, 70), (48, 80))
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=1e-4)  # Newcombe 1998b, table II (a), 10
    assert difference((10, 10), (0, 20)).mean == 1 and difference((10, 10), (0, 20)).excludes_zero


def test_calibration_finds_what_is_planted() -> None:
    random = np.random.default_rng(1)
    chances = random.uniform(0, 1, 20000)
    right = random.uniform(0, 1, 20000) < chances
    ones = np.ones(20000)
    honest, bold = calibration(chances, right, ones), calibration(np.round(chances), right, ones)
    assert honest["error"] < 0.02 and bold["error"] == pytest.approx(0.25, abs=0.02)
    assert honest["brier"] == pytest.approx(brier_score_loss(right, chances))
    assert sum(row["n"] for row in honest["bins"]) == 20000
    weights = np.where(right, 3.0, 1.0)
    assert calibration(chances, right, weights)["brier"] == pytest.approx(
        brier_score_loss(right, chances, sample_weight=weights)
    )
