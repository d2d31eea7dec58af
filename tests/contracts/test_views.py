"""What every view owes, asked of each file in the family's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from etude.core.family import Family
from etude.culture.goal_cycle import GoalCycle
from etude.culture.layout import Layout, draw_layout
from etude.culture.views import base
from etude.culture.views.base import View
from etude.culture.worlds.obstacles import Obstacles

FAMILY = Family("culture/views")
MEMBERS = cast("list[type[View]]", list(FAMILY))
every_member = pytest.mark.parametrize("member", MEMBERS, ids=lambda cls: cls.name)


def drawn(players: int, worlds: int = 24) -> Layout:
    return draw_layout(Obstacles(slow=0.2), 3, worlds, np.random.default_rng(1), colours=5, players=players)


def anywhere(game: GoalCycle, steps: int, seed: int = 0) -> GoalCycle:
    draw = np.random.default_rng(seed)
    for _ in range(steps):
        game.step(draw.integers(0, 5, game.cells.shape))
    return game


def test_the_family_has_its_members() -> None:
    assert {"compact", "local"} <= set(FAMILY.names()) and FAMILY.base() is View


def test_the_readme_tells_every_member() -> None:
    text = (Path(base.__file__).parent / "README.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in text for name in FAMILY.names())


@every_member
@pytest.mark.parametrize("players", [1, 2, 4])
@pytest.mark.parametrize("feels", [True, False])
def test_numbers_are_small_and_as_many_as_it_says(member: type[View], players: int, feels: bool) -> None:
    view, game = member(feels=feels), GoalCycle(drawn(players))
    for step in range(12):
        player, present = step % players, np.random.default_rng(step).random((24, players)) < 0.5
        seen = view.see(game, player, present)
        assert seen.shape == (24, view.width(5, players)) and seen.dtype == np.float32
        assert np.isfinite(seen).all() and np.abs(seen).max() <= 1
        before = seen.copy()
        anywhere(game, 1, step)
        view.see(game, player, ~present)
        assert np.array_equal(seen, before), "a new array each time"


@every_member
def test_what_it_feels_is_its_last_number(member: type[View]) -> None:
    game, both = GoalCycle(drawn(2)), np.ones((24, 2), bool)
    for step in range(30):
        anywhere(game, 1, step)
        for player in (0, 1):
            felt, numb = (member(feels=feels).see(game, player, both) for feels in (True, False))
            assert np.array_equal(felt[:, :-1], numb) and np.array_equal(felt[:, -1], game.entered[:, player])


@every_member
def test_who_is_absent_leaves_no_trace(member: type[View]) -> None:
    here, there = anywhere(GoalCycle(drawn(3)), 9), anywhere(GoalCycle(drawn(3)), 9)
    there.cells[:, 2] = np.roll(here.cells[:, 2], 1)
    view, all_but_one = member(feels=False), np.tile([False, True, False], (24, 1))
    assert np.array_equal(view.see(here, 0, all_but_one), view.see(there, 0, all_but_one))
    everybody = np.ones((24, 3), bool)
    assert not np.array_equal(view.see(here, 0, everybody), view.see(there, 0, everybody))
    but_oneself = np.tile([False, True, True], (24, 1))
    assert np.array_equal(view.see(here, 0, everybody), view.see(here, 0, but_oneself))


@every_member
def test_the_order_is_in_nothing_but_what_was_felt(member: type[View]) -> None:
    one = drawn(2)
    order = one.following.copy()
    world, colour = np.nonzero(order >= 0)
    order[world, one.following[world, colour]] = colour  # backwards
    other = Layout.of(one.size, one.walls, one.slow, one.goals, order, one.starts)
    here, there = GoalCycle(one), GoalCycle(other)
    for step in range(40):
        both = np.ones((24, 2), bool)
        a, b = (anywhere(game, 1, step) for game in (here, there))
        assert np.array_equal(member(feels=False).see(a, 0, both), member(feels=False).see(b, 0, both))
    assert not np.array_equal(here.last, there.last)


@every_member
def test_it_is_plain_data_that_reads_back_equal(member: type[View]) -> None:
    for view in (member(), member(feels=False)):
        assert View.from_json(json.loads(json.dumps(view.to_json()))) == view
