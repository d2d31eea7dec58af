"""Boundaries that move: when, how far, and that what lies within them is what is played."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from tests.culture.small import SETTING, small

from etude.core.errors import UsageError
from etude.culture import raising as module
from etude.culture.experts.slow import Slow
from etude.culture.raising import Raising
from etude.culture.randomisation import Randomise, Range
from etude.culture.recipes import Raise
from etude.culture.transmission import Parts, transmission
from etude.culture.worlds.obstacles import Obstacles
from etude.train.checkpoint import load_state, save_state

SHARE = Range("setting.world.share", 0.0, 0.2, 0.05)
WAIT = Range("expert.wait", 0.5, 0.0, 0.2)
BOTH = Randomise(ranges=(SHARE, WAIT), every=1, worlds=4)


def recipe(plan: Randomise, **fields: Any) -> Raise:
    setting = replace(SETTING, world=Obstacles(size=5, share=0.0))
    return small(randomise=plan, expert=Slow(wait=0.5), setting=setting, **fields)


def over(field: str, first: float, last: float) -> Raise:
    return recipe(Randomise(ranges=(Range(field, first, last, 1.0),)))


def test_boundaries_move_out_and_in_and_stay_within_their_ends() -> None:
    told = [0.9, 0.5, 0.49, 0.3, 0.29, 0.9, 0.9, 0.9, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1]
    wanted = [0.05, 0.1, 0.1, 0.1, 0.05, 0.1, 0.15, 0.2, 0.2, 0.15, 0.1, 0.05, 0.0, 0.0]
    at, found = BOTH.begin(), []
    assert at == (0.0, 0.5)
    for score in told:
        at = BOTH.after(0, at, score)
        found.append(at[0])
        assert at[1] == 0.5, "one at a time"
    assert found == wanted


def test_a_range_may_go_down_and_its_last_step_is_cut() -> None:
    at, found = BOTH.begin(), []
    for score in (1, 1, 1, 1, -1):
        at = BOTH.after(1, at, score)
        found.append(at[1])
    assert found == [0.3, 0.1, 0.0, 0.0, 0.2]


def test_what_is_drawn_lies_evenly_between_the_first_values_and_the_boundaries() -> None:
    draw = np.random.default_rng(0)
    drawn = [BOTH.sample((0.1, 0.3), draw) for _ in range(4000)]
    shares = np.array([each["setting", "world", "share"] for each in drawn])
    waits = np.array([each["expert", "wait"] for each in drawn])
    assert 0 <= shares.min() < 0.001 and 0.099 < shares.max() <= 0.1 and abs(shares.mean() - 0.05) < 0.002
    assert 0.3 <= waits.min() < 0.301 and 0.499 < waits.max() <= 0.5
    assert abs(np.corrcoef(shares, waits)[0, 1]) < 0.05
    tried = [BOTH.at_boundary(1, (0.1, 0.3), draw) for _ in range(50)]
    assert {each["expert", "wait"] for each in tried} == {0.3}
    assert len({each["setting", "world", "share"] for each in tried}) == 50


def test_boundaries_are_tried_in_turn() -> None:
    plan = replace(BOTH, every=3)
    assert [plan.due(update) for update in range(10)] == [0, None, None, 1, None, None, 0, None, None, 1]


def test_plain_randomisation_has_its_last_values_from_the_start_and_tries_nothing() -> None:
    plain = replace(BOTH, how="plain")
    assert plain.begin() == (0.2, 0.0)
    assert not any(plain.due(update) is not None for update in range(20))
    live = Raising(recipe(plain))
    for number in range(3):
        assert "tried" not in live.step(number)
    assert live.boundaries == (0.2, 0.0)


Note = tuple[float, float]


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> tuple[list[Note], list[Note]]:
    """What was tried and what was played, while it really is: how often the expert waits, beside the share of walls
    that was asked for in a trial, and that there was in what was played."""
    tried: list[Note] = []
    learned: list[Note] = []
    parts, play = module.parts, module.play

    def measuring(agent: Any, there: Raise, layout: Any, draw: Any) -> Any:
        world, expert = cast(Obstacles, there.setting.world), cast(Slow, there.expert)
        tried.append((world.share, expert.wait))
        return parts(agent, there, layout, draw)

    def playing(agent: Any, layout: Any, expert: Slow, *rest: Any) -> Any:
        learned.append((layout.walls.mean(), expert.wait))
        return play(agent, layout, expert, *rest)

    monkeypatch.setattr(module, "parts", measuring)
    monkeypatch.setattr(module, "play", playing)
    return tried, learned


def test_what_lies_at_a_boundary_is_tried_and_what_lies_within_is_played(noted) -> None:
    tried, learned = noted
    always_out = replace(BOTH, expand=-1e9, contract=-1e9)
    live, boundaries = Raising(recipe(always_out)), []
    live.progress.alone = True
    for number in range(10):
        boundaries.append(live.boundaries)
        row = live.step(number)
        assert row["tried"] == ("setting.world.share", "expert.wait")[number % 2]
        assert row["boundary"] == live.boundaries[number % 2]
    assert live.boundaries == (0.2, 0.0)
    for number, (at, (share, wait)) in enumerate(zip(boundaries, tried, strict=True)):
        if number % 2:
            assert wait == at[1]
        else:
            assert share == at[0]
    for at, (_, wait) in zip(boundaries, learned, strict=True):
        assert at[1] - 0.2 <= wait <= 0.5
    assert len({wait for _, wait in learned}) == 10
    assert max(walls for walls, _ in learned) > 0.02


def measured_as(*scores: float) -> Callable[..., Any]:
    """Return a measurement that comes out as it is told, one transmission after the other."""
    left = iter(scores)

    def parts(*_: Any) -> Parts:
        score = next(left)
        return Parts(full=score, half=score, solo=0.0, expert=1.0)

    return parts


def test_what_is_measured_moves_the_boundary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "parts", measured_as(0.8, 0.8, 0.4, 0.1))
    live = Raising(recipe(replace(BOTH, ranges=(SHARE,))))
    live.progress.alone = True
    rows = [live.step(number) for number in range(4)]
    assert [row["boundary"] for row in rows] == [0.05, 0.1, 0.1, 0.05]
    assert [row["transmission_there"] for row in rows] == pytest.approx([0.8, 0.8, 0.4, 0.1])


def test_nothing_is_tried_before_the_expert_may_be_absent() -> None:
    live = Raising(recipe(BOTH, curriculum=replace(small().curriculum, absent_from=0.99)))
    assert "tried" not in live.step(0) and live.boundaries == (0.0, 0.5)


def test_boundaries_survive_a_checkpoint(tmp_path: Path) -> None:
    plan = replace(BOTH, expand=-1e9, contract=-1e9)
    live, other = Raising(recipe(plan)), Raising(recipe(plan))
    live.progress.alone = True
    for number in range(3):
        live.step(number)
    other.load(load_state(save_state(tmp_path, 3, live.state())))
    assert other.boundaries == live.boundaries == (0.1, 0.3)
    assert other.progress == live.progress
    assert other.step(3) == live.step(3)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Range(first=0.1, last=0.1), "the range of setting.world.share goes from 0.1 to 0.1 by 0.05"),
        (lambda: Range(step=0), "the range of setting.world.share goes from 0 to 0.2 by 0: give two ends"),
        (lambda: Randomise(ranges=()), "0 ranges, every = 5"),
        (lambda: Randomise(contract=0.6), ".* contract = 0.6, expand = 0.5: give .* contract no higher than expand"),
        (lambda: small(randomise=Randomise()), "unknown field 'share' of open"),
        (lambda: over("rule.rate", 1e-3, 1e-2), "rule.rate is nothing that is played: randomise a field of setting"),
        (lambda: over("setting.goals", 2, 3), "Setting.goals = 2.0 is not a whole number"),
        (lambda: over("expert.wait", 0, 2), "wait = 2: give a chance, from 0 to 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(build: Callable[[], Any], words: str) -> None:
    with pytest.raises(UsageError, match=f"^{words}"):
        build()


def test_transmission_of_what_is_known() -> None:
    for full, half, solo, expert, wanted in (
        (10, 10, 0, 10, 1.0),
        (4, 4, 4, 10, 0.0),
        (10, 0, 0, 10, 0.5),
        (10, 5, -2, 10, 0.95),
        (3, 3, 0, 0, 0.0),
        (3, 3, 0, -1, 0.0),
    ):
        assert Parts(full, half, solo, expert).transmission == pytest.approx(wanted)
    several = np.array([10.0, 4.0])
    np.testing.assert_allclose(transmission(several, several, np.zeros(2), np.array([10.0, 0.0])), [1, 0])
