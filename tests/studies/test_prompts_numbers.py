"""What prompts change: planted differences are found, and noise is told from them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from etude.core.errors import UsageError
from etude.evals.prompting import Prompt, _ordered
from etude.studies.sections.prompts_numbers import _chance, deviation, gain


def answers(random: np.random.Generator, effects: np.ndarray, items: int, noise: float) -> np.ndarray:
    """Return scores of prompts on items: an item's own, what the prompt changes, and noise."""
    own = random.normal(0.5, 0.3, items)
    return own + effects[:, None] + random.normal(0, noise, (len(effects), items))


@pytest.mark.parametrize("planted", [0.0, 0.02, 0.1])
def test_the_spread_of_prompts_is_estimated_without_the_noise_of_items(planted: float) -> None:
    random = np.random.default_rng(0)
    found = []
    for _ in range(300):
        effects = random.normal(0, 1, 12)
        effects = planted * (effects - effects.mean()) / effects.std(ddof=1)
        found.append(deviation(answers(random, effects, 100, 0.4)))
    between, noise = np.array(found).T
    assert np.mean(noise) == pytest.approx(0.4 / 10, rel=0.05)  # of a mean over 100 items
    assert np.sqrt(np.mean(between**2)) == pytest.approx(planted, abs=0.017)


def test_without_an_effect_the_test_of_prompts_errs_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    small = []
    for _ in range(400):
        held = answers(random, np.zeros(6), 50, 0.4)
        small.append(_chance(held, deviation(held)[1]) < 0.05)
    assert 0.02 < np.mean(small) < 0.09
    held = answers(random, np.linspace(0, 0.6, 6), 50, 0.4)
    assert _chance(held, deviation(held)[1]) < 1e-6


def test_prompts_that_share_a_wording_are_not_taken_for_many() -> None:
    """Items like one wording or another, and no wording is better on the average: the 18 prompts are 3."""
    random = np.random.default_rng(2)
    small = []
    for _ in range(400):
        liked = random.normal(0, 0.4, (3, 100))
        held = np.repeat(liked, 6, axis=0) + random.normal(0, 0.02, (18, 100))
        small.append(_chance(held, deviation(held)[1]) < 0.05)
    assert 0.02 < np.mean(small) < 0.09


def test_one_draw_of_examples_says_nothing_of_others() -> None:
    change = {"mean": 0.1, "low": 0.08, "high": 0.12, "n": 200}
    one, several = ([{"change": None}, {"change": change, "draws": draws}] for draws in ([0.6], [0.4, 0.6, 0.8]))
    for rows in (one, several):
        found = gain(rows)
        assert found is not None and found.mean == 0.1 and not found.excludes_zero
    alike = gain([{"change": None}, {"change": change, "draws": [0.6, 0.601, 0.599]}])
    assert alike is not None and alike.excludes_zero


def test_orders_differ_and_are_no_more_than_there_are() -> None:
    for count in (1, 2, 3, 4):
        every = [_ordered(count, order) for order in range(math.factorial(count))]
        assert len(set(every)) == len(every) and every[0] == tuple(range(count))
    with pytest.raises(UsageError, match="order = 2: 2 examples have 2, from 0 to 1"):
        Prompt(shots=2, order=2)


def test_one_prompt_or_one_item_says_nothing() -> None:
    assert deviation(np.ones((1, 5))) == (0.0, 0.0) and deviation(np.ones((5, 1))) == (0.0, 0.0)
    assert _chance(np.ones((3, 4)), 0.0) == 1.0
