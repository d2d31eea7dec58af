"""Views against slow, plain loops, and what they must not show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.culture.plain import PlainWorld, layouts, walks

from etude.core.errors import UsageError
from etude.culture.goal_cycle import GoalCycle
from etude.culture.layout import Layout, draw_layout
from etude.culture.views.base import View
from etude.culture.views.compact import Compact
from etude.culture.views.local import Local
from etude.culture.worlds.open import Open

Numbers = list[float]


def plain_local(view: Local, game: GoalCycle, number: int, player: int, present: list[bool]) -> Numbers:
    world, found = PlainWorld(game.layout, number), []
    row, column = divmod(int(game.cells[number, player]), world.size)
    for down in range(-view.radius, view.radius + 1):
        for right in range(-view.radius, view.radius + 1):
            place = (row + down, column + right)
            outside = not (0 <= place[0] < world.size and 0 <= place[1] < world.size)
            found += [float(outside or place in world.walls), float(place in world.slow)]
            found += [float(world.goals.get(colour) == place) for colour in range(game.colours)]
            for other in range(game.players):
                if other != player:
                    stands = divmod(int(game.cells[number, other]), world.size) == place
                    found.append(float(stands and present[other]))
    return found


def plain_compact(_: Compact, game: GoalCycle, number: int, player: int, present: list[bool]) -> Numbers:
    world, colours = PlainWorld(game.layout, number), range(game.colours)
    scale = world.size - 1
    me = divmod(int(game.cells[number, player]), world.size)
    found: Numbers = []
    for colour in colours:
        goal = world.goals.get(colour, me)
        found += [(goal[0] - me[0]) / scale, (goal[1] - me[1]) / scale]
    found += [float(colour in world.goals) for colour in colours]
    found += [float(world.goals.get(colour) == me) for colour in colours]
    for other in range(game.players):
        if other != player:
            place = divmod(int(game.cells[number, other]), world.size)
            shown = [(place[0] - me[0]) / scale, (place[1] - me[1]) / scale, 1.0]
            shown += [float(world.goals.get(colour) == place) for colour in colours]
            found += [x * present[other] for x in shown]
    for action in (1, 2, 3, 4):
        far, place = 0, me
        while (there := world.to(place, action)) != place:
            far, place = far + 1, there
        found.append(far / scale)
    return [*found, float(me in world.slow)]


PLAIN = {Local: plain_local, Compact: plain_compact}
VIEWS = [Compact(), Local(), Local(radius=1), Local(radius=4)]
every_view = pytest.mark.parametrize("view", VIEWS, ids=repr)


@every_view
@given(layouts(worlds=2, players=3), st.integers(0, 2**20))
@settings(max_examples=15, deadline=None)
def test_a_view_is_what_a_plain_loop_sees(view: View, layout: Layout, seed: int) -> None:
    game, random = GoalCycle(layout), np.random.default_rng(seed)
    for actions in walks(layout, 12, seed):
        player, present = int(random.integers(3)), random.random((2, 3)) < 0.5
        seen = view.see(game, player, present)
        assert seen.shape == (2, view.width(game.colours, 3)) and seen.dtype == np.float32
        wanted = [PLAIN[type(view)](view, game, number, player, present[number].tolist()) for number in range(2)]
        np.testing.assert_allclose(seen[:, :-1], wanted, atol=1e-6)
        assert np.array_equal(seen[:, -1], game.entered[:, player])
        game.step(actions)


@every_view
def test_who_is_absent_does_not_show(view: View) -> None:
    layout = draw_layout(Open(size=5), 3, 32, np.random.default_rng(0), players=2)
    moved = Layout.of(5, layout.walls, layout.slow, layout.goals, layout.following, np.roll(layout.starts, 1, axis=0))
    moved.starts[:, 0] = layout.starts[:, 0]
    alone, both = np.tile([True, False], (32, 1)), np.ones((32, 2), bool)
    here, there = GoalCycle(layout), GoalCycle(moved)
    assert np.array_equal(view.see(here, 0, alone), view.see(there, 0, alone))
    assert not np.array_equal(view.see(here, 0, both), view.see(there, 0, both))
    assert np.array_equal(view.see(here, 0, both), view.see(here, 0, np.tile([False, True], (32, 1)))), "oneself"


def test_what_is_outside_the_window_does_not_show() -> None:
    nothing = np.zeros((1, 81), bool)
    seen = []
    for far in ([[8, 16, 79]], [[80, 72, 7]]):  # from the middle, three cells or more away
        layout = Layout.of(9, nothing, nothing, np.array(far), np.array([[1, 2, 0]]), np.array([[40, far[0][0] - 1]]))
        walled = nothing.copy()
        walled[0, far[0][1] - 2] = True
        layout = Layout.of(9, walled, walled, layout.goals, layout.following, layout.starts)
        seen.append([Local(radius=r).see(GoalCycle(layout), 0, np.ones((1, 2), bool)) for r in (2, 4)])
    assert np.array_equal(seen[0][0], seen[1][0]) and not np.array_equal(seen[0][1], seen[1][1])


@every_view
def test_one_that_feels_has_one_number_more(view: View) -> None:
    layout = draw_layout(Open(), 3, 4, np.random.default_rng(0))
    game, both = GoalCycle(layout), np.ones((4, 2), bool)
    numb = replace(view, feels=False)
    assert numb.width(3, 2) == view.width(3, 2) - 1
    assert np.array_equal(numb.see(game, 0, both), view.see(game, 0, both)[:, :-1])


def test_a_window_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^radius = 0: a window shows 1 cell to each side or more$"):
        Local(radius=0)
