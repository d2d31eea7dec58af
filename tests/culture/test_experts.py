"""Experts against a plain search of everything that could be done, and against each other."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.culture.plain import PlainWorld, layouts

from etude.core.errors import UsageError
from etude.culture.experts.anti import Anti
from etude.culture.experts.base import Expert
from etude.culture.experts.noisy import Noisy
from etude.culture.experts.random import Random
from etude.culture.experts.shortest import Shortest
from etude.culture.experts.slow import Slow
from etude.culture.goal_cycle import GoalCycle
from etude.culture.layout import Layout, draw_layout
from etude.culture.routes import FAR, routes
from etude.culture.worlds.open import Open


def played(expert: Expert, layout: Layout, steps: int, player: int = 1, seed: int = 0) -> np.ndarray:
    """Return what an expert entered at each step [T B], the others standing still."""
    game, draw = GoalCycle(layout, steps), np.random.default_rng(seed)
    entered = np.zeros((steps, len(layout)), np.int8)
    for step in range(steps):
        actions = np.zeros(game.cells.shape, np.int64)
        actions[:, player] = expert.act(game, player, draw)
        entered[step] = game.step(actions)[:, player]
    return entered


def actions_of(expert: Expert, layout: Layout, steps: int, seed: int) -> np.ndarray:
    game, draw, found = GoalCycle(layout, steps), np.random.default_rng(seed), []
    for _ in range(steps):
        actions = np.repeat(expert.act(game, 1, draw)[:, None], game.players, axis=1)
        found.append(actions[:, 1])
        game.step(actions)
    return np.array(found)


@given(layouts())
@settings(max_examples=80, deadline=None)
def test_routes_are_those_of_a_plain_search(layout: Layout) -> None:
    for number in range(len(layout)):
        world = PlainWorld(layout, number)
        for goal in world.goals:
            for cell in range(layout.size**2):
                place = divmod(cell, layout.size)
                wanted = None if place in world.walls else world.steps(place, goal)
                assert layout.away[number, goal, cell] == (FAR if wanted is None else wanted)
                if wanted:
                    there = world.to(place, int(layout.steer[number, goal, cell]))
                    assert world.colour_at.get(there, goal) == goal
                    assert world.steps(there, goal) == wanted - 1 - (place in world.slow)


def test_what_is_cut_off_is_far_and_its_step_is_to_stay() -> None:
    walls = np.zeros((1, 9), bool)
    walls[0, [1, 3, 4]] = True
    away, steer = routes(3, walls, np.zeros((1, 9), bool), np.array([[0, 8, -1]]))
    assert away[0, 0].tolist() == [0] + [FAR] * 8 and away[0, 1].tolist()[5:] == [1, 2, 1, 0]
    assert (steer[0, 0] == 0).all() and (away[0, 2] == FAR).all() and (steer[0, 2] == 0).all()


@given(layouts(), st.integers(1, 40))
@settings(max_examples=80, deadline=None)
def test_no_way_without_a_mistake_counts_more_than_the_shortest_ways(layout: Layout, steps: int) -> None:
    for player in (0, 1):
        entered = played(Shortest(), layout, steps, player)
        assert entered.min() >= 0
        wanted = [PlainWorld(layout, number).most(player, steps) for number in range(len(layout))]
        assert entered.sum(0).tolist() == wanted


def one_world(size: int, walls: list[int], slow: list[int], goals: list[int], start: int) -> Layout:
    """One world with its goals in the order of their colours, those at -1 left out."""
    there = [colour for colour, cell in enumerate(goals) if cell >= 0]
    following = np.full((1, len(goals)), -1)
    following[0, there] = np.roll(there, -1)
    standing, muddy = np.zeros((2, 1, size**2), bool)
    standing[0, walls], muddy[0, slow] = True, True
    return Layout.of(size, standing, muddy, np.array([goals]), following, np.array([[start, start]]))


def test_no_way_leads_through_a_goal_in_the_first_cell_when_a_colour_is_missing() -> None:
    layout = one_world(3, [4], [], [0, 3, 1, -1], 8)
    assert layout.away[0, 1, 1] == 6, "round the wall in the middle, and not through the corner"


def test_a_start_in_a_slow_cell_costs_nothing() -> None:
    layout = one_world(3, [], [4], [1, 7], 4)
    assert layout.away[0, :, 4].tolist() == [2, 2]
    assert played(Shortest(), layout, 5).sum() == PlainWorld(layout, 0).most(1, 5) == 2


def test_one_that_strayed_behind_a_goal_comes_back_through_it() -> None:
    layout = one_world(3, [4, 7], [], [3, 2], 0)  # below the goal at the left is a dead end
    layout.require_playable()
    game, draw = GoalCycle(layout), np.random.default_rng(0)
    for action in (3, 3):  # over the goal of colour 0, into the corner below it
        game.step(np.full((1, 2), action))
    assert game.cells[0, 1] == 6 and game.next[0, 1] == 1
    counted = [int(game.step(np.full((1, 2), Shortest().act(game, 1, draw)[0]))[0, 1]) for _ in range(6)]
    assert counted == [-1, 0, 0, 1, 0, 0]


@given(layouts(worlds=2), st.integers(0, 2**20))
@settings(max_examples=30, deadline=None)
def test_the_shortest_ways_are_taken_up_again_wherever_one_stands(layout: Layout, seed: int) -> None:
    game, draw = GoalCycle(layout), np.random.default_rng(seed)
    for _ in range(15):
        game.step(draw.integers(0, 5, game.cells.shape))
    astray = []  # behind a goal, which has to be entered out of turn
    for number in range(2):
        world, place = PlainWorld(layout, number), divmod(int(game.cells[number, 1]), layout.size)
        wanted = int(game.next[number, 1])
        astray.append(all(world.steps(place, goal) is None for goal in world.goals if wanted in (-1, goal)))
    right, wrong = np.zeros(2), np.zeros(2)
    for _ in range(150):
        actions = np.zeros(game.cells.shape, np.int64)
        actions[:, 1] = Shortest().act(game, 1, draw)
        entered = game.step(actions)[:, 1]
        right, wrong = right + (entered > 0), wrong + (entered < 0)
    assert (right > 1).all() and wrong.tolist() == astray


@given(layouts())
@settings(max_examples=40, deadline=None)
def test_the_wrong_order_is_the_hidden_one_backwards(layout: Layout) -> None:
    game, steps = GoalCycle(layout), 80
    visited: list[list[int]] = [[] for _ in range(len(layout))]
    scores = np.zeros(len(layout), int)
    for _ in range(steps):
        actions = np.zeros(game.cells.shape, np.int64)
        actions[:, 1] = Anti().act(game, 1, np.random.default_rng(0))
        entered = game.step(actions)[:, 1]
        scores += entered
        for number in np.flatnonzero(entered):
            visited[number].append(int(game.standing[number, 1]))
    for number, colours in enumerate(visited):
        assert len(colours) > 1
        assert all(layout.following[number, after] == before for before, after in pairwise(colours))
        goals = int((layout.goals[number] >= 0).sum())
        assert scores[number] == (len(colours) if goals == 2 else _backwards(colours))


def _backwards(colours: list[int]) -> int:
    """Return what a walk backwards counts where there are three or more: the first is right, and so is the goal that
    follows the first one in the hidden order, once it comes round."""
    last, score = colours[0], 1
    after = {later: earlier for earlier, later in pairwise(colours)}
    for colour in colours[1:]:
        right = after.get(last) == colour
        score += 1 if right else -1
        last = colour if right else last
    return score


def some(worlds: int = 64, goals: int = 3) -> Layout:
    return draw_layout(Open(size=6), goals, worlds, np.random.default_rng(0))


@pytest.mark.parametrize("wrapped", [Slow(wait=0.0), Noisy(chance=0.0)])
def test_wrapped_in_nothing_an_expert_does_the_same(wrapped: Expert) -> None:
    layout = some()
    assert np.array_equal(actions_of(wrapped, layout, 30, 1), actions_of(Shortest(), layout, 30, 2))


def test_one_that_always_waits_stays_and_one_that_always_errs_is_random() -> None:
    layout = some()
    assert (actions_of(Slow(wait=1.0), layout, 20, 0) == 0).all()
    drawn = np.bincount(actions_of(Noisy(chance=1.0), layout, 200, 0).ravel(), minlength=5)
    assert np.abs(drawn / drawn.sum() - 0.2).max() < 0.02
    drawn = np.bincount(actions_of(Random(), layout, 200, 0).ravel(), minlength=5)
    assert np.abs(drawn / drawn.sum() - 0.2).max() < 0.02


def test_one_that_errs_more_or_waits_more_counts_less() -> None:
    layout = some(256)
    noisy = [played(Noisy(chance=chance), layout, 60).sum() for chance in (0.0, 0.25, 0.5, 1.0)]
    slow = [played(Slow(wait=wait), layout, 60).sum() for wait in (0.0, 0.25, 0.5, 1.0)]
    assert noisy == sorted(noisy, reverse=True) and slow == sorted(slow, reverse=True) and slow[-1] == 0
    share = (actions_of(Slow(wait=0.25), layout, 60, 0) == 0).mean()
    assert abs(share - 0.25) < 0.02


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Slow(wait=1.5), r"wait = 1\.5: give a chance, from 0 to 1"),
        (lambda: Noisy(chance=-0.1), r"chance = -0\.1: give a chance, from 0 to 1"),
    ],
)
def test_what_cannot_be_is_refused(build, words) -> None:
    with pytest.raises(UsageError, match=f"^{words}$"):
        build()
