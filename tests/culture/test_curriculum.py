"""The price of mistakes and the absence of the expert, as they follow what a learner earns."""

from __future__ import annotations

import numpy as np
import pytest

from etude.core.errors import UsageError
from etude.culture.curriculum import Curriculum, Progress, moved_on, rewards

ENTERED = np.array([[1, -1, 0, -1], [-1, 1, -1, 0]], np.int8)
PRESENT = np.array([[True, True, False, False], [False, False, True, True]])


@pytest.mark.parametrize(
    ("pace", "seen", "unseen", "with_it", "without"),
    [
        ("apart", 0.0, 0.0, 0.2, 0.2),
        ("apart", 0.25, 0.0, 0.6, 0.2),
        ("apart", 0.5, 0.125, 1.0, 0.4),
        ("apart", 9.0, -3.0, 1.0, 0.2),
        ("together", 0.25, 0.0, 0.6, 0.6),
        ("together", 0.0, 0.5, 0.2, 0.2),
        ("none", 0.0, 0.0, 1.0, 1.0),
    ],
)
def test_what_a_wrong_goal_costs(pace, seen: float, unseen: float, with_it: float, without: float) -> None:
    plan = Curriculum(first=0.2, last=1.0, earned=0.5, pace=pace)
    paid = rewards(ENTERED, PRESENT, plan, Progress(seen, unseen))
    assert paid.dtype == np.float32
    np.testing.assert_allclose(paid[0], [1, -with_it, 0, -without])
    np.testing.assert_allclose(paid[1], [-without, 1, -with_it, 0])


def test_prices_may_fall_too() -> None:
    plan = Curriculum(first=1.0, last=0.0)
    assert [plan.price(share) for share in (-1, 0, 0.25, 0.5, 2)] == [1.0, 1.0, 0.5, 0.0, 0.0]


def test_shares_are_of_the_experts_score_a_step_and_averaged_over_updates() -> None:
    plan = Curriculum(memory=4, absent_from=0.3)
    at = Progress()
    for update in range(1, 9):
        at = moved_on(at, plan, earned=(30.0, 5.0), steps=(100.0, 50.0), expert=0.6)
        grown = 1 - 0.75**update
        assert at.seen == pytest.approx(0.5 * grown) and at.unseen == pytest.approx(grown / 6)
        assert at.alone == (0.5 * grown >= 0.3)


def test_without_steps_of_a_kind_its_share_stays() -> None:
    at = moved_on(Progress(0.4, 0.2), Curriculum(), earned=(3.0, 0.0), steps=(10.0, 0.0), expert=0.3)
    assert at.unseen == 0.2 and at.seen == pytest.approx(0.4 + (1.0 - 0.4) / 20)


def test_who_was_once_alone_stays_so() -> None:
    plan = Curriculum(memory=1, absent_from=0.5)
    at = moved_on(Progress(), plan, (5.0, 0.0), (10.0, 0.0), expert=1.0)
    assert at.alone and at.seen == 0.5
    assert moved_on(at, plan, (-5.0, 0.0), (10.0, 0.0), expert=1.0).alone


def test_an_expert_that_scores_nothing_is_no_division_by_nothing() -> None:
    at = moved_on(Progress(), Curriculum(memory=1), (1.0, 0.0), (10.0, 0.0), expert=0.0)
    assert np.isfinite(at.seen)


@pytest.mark.parametrize("fields", [{"first": -1}, {"earned": 0}, {"absent_from": 1}, {"memory": 0}])
def test_what_cannot_be_is_refused(fields) -> None:
    with pytest.raises(UsageError, match=r"give prices from 0, shares, and 1 update or more$"):
        Curriculum(**fields)
