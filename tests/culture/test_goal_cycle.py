"""The game against a plain one of one world at a time, and the order against every other order."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.culture.plain import PlainGame, PlainWorld, layouts, walks

from etude.core.errors import UsageError
from etude.culture.experts.shortest import Shortest
from etude.culture.goal_cycle import GoalCycle
from etude.culture.layout import Layout
from etude.culture.views.base import View
from etude.culture.views.compact import Compact
from etude.culture.views.local import Local


def line(*goals: int, order: tuple[int, ...], start: int, slow: tuple[int, ...] = (), size: int = 5) -> Layout:
    """One world whose first row holds goals of colours 0, 1, ... at these columns, and one player."""
    walls, muddy = np.zeros((1, size**2), bool), np.zeros((1, size**2), bool)
    muddy[0, list(slow)] = True
    following = np.full((1, len(goals)), -1)
    for at, colour in enumerate(order):
        following[0, colour] = order[(at + 1) % len(order)]
    return Layout.of(size, walls, muddy, np.array([goals]), following, np.array([[start]]))


def parts_of(layout: Layout) -> list[np.ndarray]:
    return [layout.walls, layout.slow, layout.goals, layout.starts]


def scores(layout: Layout, actions: str) -> list[int]:
    game = GoalCycle(layout)
    return [int(game.step(np.array([[".URDL".index(action)]]))[0, 0]) for action in actions]


@given(layouts(), st.integers(0, 2**20))
@settings(max_examples=60, deadline=None)
def test_scores_are_those_of_the_plain_game(layout: Layout, seed: int) -> None:
    game = GoalCycle(layout)
    plain = [PlainGame(PlainWorld(layout, number)) for number in range(len(layout))]
    expert = Shortest()
    for actions in walks(layout, 60, seed):
        actions[:, 1] = np.where(actions[:, 1] < 3, expert.act(game, 1, np.random.default_rng(0)), actions[:, 1])
        found = game.step(actions)
        assert found.tolist() == [each.step(row.tolist()) for each, row in zip(plain, actions, strict=True)]
        places = [[divmod(int(cell), layout.size) for cell in row] for row in game.cells]
        assert places == [each.places for each in plain]
        last = [[colour if colour < game.colours else None for colour in row] for row in game.last]
        assert last == [each.last for each in plain]


def test_the_rules_one_by_one() -> None:
    three = line(0, 2, 4, order=(0, 1, 2), start=1)
    assert scores(three, "RRRLL") == [1, 0, 1, 0, -1], "any goal first, the next one after it, then one out of turn"
    assert scores(three, "LRL") == [1, 0, -1], "the last one again is wrong"
    assert scores(three, "L.UL") == [1, 0, 0, 0], "to stay on a goal, or to run against the edge, enters nothing"
    assert scores(three, "RRRLLRRLLLLRR") == [1, 0, 1, 0, -1, 0, -1, 0, -1, 0, 1, 0, 1], "a mistake leaves the order"
    muddy = line(0, 2, 4, order=(0, 1, 2), start=1, slow=(2, 3))
    assert scores(muddy, "RRRRRRR") == [1, 0, 0, 0, 1, 0, 0], "a slow cell holds for a step"


def test_players_pass_through_each_other_and_have_places_of_their_own() -> None:
    one = line(0, 2, 4, order=(0, 1, 2), start=1)
    both = Layout.of(5, one.walls, one.slow, one.goals, one.following, np.array([[1, 1]]))
    game = GoalCycle(both)
    assert game.step(np.array([[4, 2]])).tolist() == [[1, 1]]
    assert game.next.tolist() == [[1, 2]]
    game.step(np.array([[2, 4]]))
    assert game.cells.tolist() == [[1, 1]]


@given(layouts(worlds=1), st.integers(0, 2**20), st.sampled_from([Compact, Local]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_order_does_not_show_to_one_that_is_alone(layout: Layout, seed: int, view: type[View], feels: bool) -> None:
    """Every order at once, one a world, and the same actions in each."""
    own = [int(colour) for colour in np.flatnonzero(layout.goals[0] >= 0)]
    orders = [(own[0], *rest) for rest in permutations(own[1:])]
    following = np.repeat(layout.following, len(orders), axis=0)
    for number, order in enumerate(orders):
        following[number, list(order)] = np.roll(order, -1)
    walls, slow, goals, starts = (np.repeat(x, len(orders), axis=0) for x in parts_of(layout))
    every = Layout.of(layout.size, walls, slow, goals, following, starts)
    game, sees = GoalCycle(every), view(feels=feels)
    alone = np.zeros((len(orders), 2), bool)
    alone[:, 0] = True
    entered = np.zeros((len(orders), 0), np.int8)
    for actions in walks(layout, 60, seed):
        seen = sees.see(game, 0, alone)
        if feels:
            assert np.array_equal(seen[:, -1], entered[:, -1] if entered.shape[1] else np.zeros(len(orders)))
            seen = seen[:, :-1]
        assert (seen == seen[0]).all()
        entered = np.concatenate([entered, game.step(np.repeat(actions, len(orders), axis=0))[:, :1]], axis=1)


def test_a_world_in_which_a_goal_cannot_be_reached_is_refused_by_who_goes_there() -> None:
    layout = line(0, 2, 4, order=(0, 1, 2), start=1)
    walls = layout.walls.copy()
    walls[0, [3, 9]] = True
    cut = Layout.of(5, walls, layout.slow, layout.goals, layout.following, layout.starts)
    with pytest.raises(UsageError, match=r"^world 0 cannot be played: a goal or a start is in a wall"):
        Shortest().act(GoalCycle(cut), 0, np.random.default_rng(0))
