"""Random numbers by address: the same whoever asks, independent, and evenly spread."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from etude.text.chance import below, uniform


def test_a_number_follows_from_its_address_alone() -> None:
    whole = uniform(3, "use", 7, np.arange(50), 9)
    assert whole.shape == (50, 9) and whole.dtype == np.float64
    assert (uniform(3, "use", 7, np.array([41, 5]), 9) == whole[[41, 5]]).all()
    assert (uniform(3, "use", 7, np.array([41, 5]), 4) == whole[[41, 5], :4]).all()


@pytest.mark.parametrize("other", [(4, "use", 7, 0), (3, "else", 7, 0), (3, "use", 8, 0), (3, "use", 7, 1)], ids=str)
def test_every_part_of_the_address_counts(other: tuple[int, str, int, int]) -> None:
    seed, name, draw, shift = other
    one, two = uniform(3, "use", 7, np.arange(200), 20), uniform(seed, name, draw, np.arange(200) + shift, 20)
    assert not np.isin(one[:, 0], two[:, 0]).all()
    assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.06  # of 4,000 pairs: 3.8 standard errors


def test_the_numbers_are_uniform_and_neighbours_independent() -> None:
    numbers = uniform(0, "use", 0, np.arange(2000), 50)
    assert numbers.min() >= 0 and numbers.max() < 1
    assert stats.kstest(numbers.ravel(), "uniform").pvalue > 1e-3
    for one, other in ((numbers[:, :-1], numbers[:, 1:]), (numbers[:-1], numbers[1:])):
        counts = np.histogram2d(one.ravel(), other.ravel(), bins=8)[0].ravel()
        assert stats.chisquare(counts).pvalue > 1e-3


def test_the_numbers_are_the_same_for_ever() -> None:
    assert uniform(1, "golden", 2, np.array([0, 3]), 2).tolist() == GOLDEN


def test_whole_numbers_below_a_bound() -> None:
    numbers = uniform(0, "use", 0, np.arange(9000), 1)[:, 0]
    assert np.bincount(below(np.full(9000, 3), numbers)).min() > 2800
    assert below(np.array([1, 5]), np.array([0.999999, 1 - 2**-53])).tolist() == [0, 4]


GOLDEN = [[0.1512142077551688, 0.370867984403775], [0.5988560083831986, 0.19464991393958853]]
