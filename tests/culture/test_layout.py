"""Worlds as they are drawn: with doors, with room, playable, and refused where they cannot be."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.culture.plain import PlainWorld, layouts

from etude.core.errors import UsageError
from etude.culture.layout import Layout, draw_layout, joined
from etude.culture.worlds.base import World
from etude.culture.worlds.obstacles import Obstacles
from etude.culture.worlds.open import Open
from etude.culture.worlds.rooms import Rooms


def by_hand(goals: list[int], starts: list[int], walls: tuple[int, ...] = (), size: int = 3) -> Layout:
    """One world, its order that of the colours."""
    standing = np.zeros((1, size**2), bool)
    standing[0, list(walls)] = True
    following = np.roll(np.arange(len(goals)), -1)[None]
    return Layout.of(size, standing, np.zeros_like(standing), np.array([goals]), following, np.array([starts]))


@given(layouts(worlds=4, players=3))
@settings(max_examples=60, deadline=None)
def test_what_is_drawn_can_be_played(layout: Layout) -> None:
    assert layout.playable.all()
    layout.require_playable()
    assert not (layout.slow & layout.walls).any()
    for number in range(len(layout)):
        world = PlainWorld(layout, number)
        assert len(world.colour_at) == len(world.goals) >= 2, "no two goals share a cell"
        assert set(world.goals) == {int(c) for c in np.flatnonzero(layout.following[number] >= 0)}
        assert not world.walls & set(world.goals.values()) and not world.walls & set(world.starts)
        assert not set(world.starts) & set(world.goals.values())
        for place in {*world.starts, *world.goals.values()}:
            assert all(world.steps(place, goal) is not None for goal in world.goals)
        colour = first = min(world.goals)
        for _ in world.goals:
            colour = world.after[colour]
        assert colour == first and sorted(world.after.values()) == sorted(world.goals), "one cycle through all"


@given(st.integers(5, 12), st.integers(1, 4), st.integers(0, 2**20))
@settings(max_examples=60, deadline=None)
def test_rooms_have_doors_and_can_all_be_left(size: int, doors: int, seed: int) -> None:
    walls = Rooms(size=size, doors=doors).walls(16, np.random.default_rng(seed)).reshape(-1, size, size)
    for grid in walls:
        rows, columns = (np.flatnonzero(grid.sum(axis) > size // 2) for axis in (1, 0))
        free = {(int(r), int(c)) for r, c in np.argwhere(~grid)}
        reached, edge = set(), {min(free)}
        while edge:
            reached |= edge
            near = {(r + a, c + b) for r, c in edge for a, b in ((0, 1), (1, 0), (0, -1), (-1, 0))}
            edge = (near & free) - reached
        assert reached == free
        if doors == 1 and size > 8:
            assert len(rows) == len(columns) == 1 and size**2 - len(free) == 2 * size - 1 - 4


def test_orders_places_and_starts_are_drawn_evenly() -> None:
    layout = draw_layout(Open(size=6), 3, 6000, np.random.default_rng(0), colours=4)
    assert np.abs((layout.goals >= 0).mean(0) - 3 / 4).max() < 0.02
    places = np.bincount(layout.goals[layout.goals >= 0], minlength=36) / 18_000
    assert np.abs(places - 1 / 36).max() < 0.005
    without = layout[np.flatnonzero(layout.goals[:, 3] < 0)]
    orders = Counter(map(tuple, without.following.tolist()))
    assert set(orders) == {(1, 2, 0, -1), (2, 0, 1, -1)} and abs(orders[1, 2, 0, -1] / len(without) - 0.5) < 0.05


def test_the_same_draw_gives_the_same_worlds_and_beside_one_start() -> None:
    one, two = (draw_layout(Obstacles(slow=0.2), 3, 20, np.random.default_rng(7), beside=True) for _ in range(2))
    assert all(np.array_equal(getattr(one, name), getattr(two, name)) for name in ("walls", "slow", "goals", "starts"))
    assert (one.starts[:, 0] == one.starts[:, 1]).all()
    apart = draw_layout(Open(), 3, 200, np.random.default_rng(7))
    assert (apart.starts[:, 0] != apart.starts[:, 1]).all()
    both = joined([one[:5], one[5:]])
    assert np.array_equal(both.away, one.away) and len(both) == 20


class Halved(World):
    """A wall from edge to edge through most worlds."""

    def walls(self, worlds: int, draw: np.random.Generator) -> np.ndarray:
        grid = np.zeros((worlds, self.size, self.size), bool)
        grid[draw.random(worlds) < 0.9, self.size // 2] = True
        return grid.reshape(worlds, -1)


def test_worlds_that_are_cut_in_parts_are_drawn_again() -> None:
    layout = draw_layout(Halved(size=5), 4, 50, np.random.default_rng(0))
    assert len(layout) == 50 and layout.playable.all()
    halves = layout.walls.reshape(-1, 5, 5).any((1, 2))
    assert 0 < halves.sum() < 30, "goals and starts in one half alone can be played"


@pytest.mark.parametrize(
    ("layout", "playable"),
    [
        (by_hand([0, 8], [4]), True),
        (by_hand([0, 2, 1], [4]), True),
        (by_hand([0, 2], [4], walls=(4,)), False),
        (by_hand([0, 2], [4], walls=(0,)), False),
        (by_hand([0, 2], [6], walls=(1, 3, 4)), False),
        (by_hand([0, 2, 1], [4], walls=(3, 5)), False),  # the corners can only be left through the third
        (by_hand([0, 2], [2]), False),
        (by_hand([2, 2], [4]), False),
        (by_hand([0, -1, 8], [4, 4]), True),
    ],
)
def test_what_can_be_played(layout: Layout, playable: bool) -> None:
    assert layout.playable.tolist() == [playable]
    if not playable:
        with pytest.raises(UsageError, match=r"^world 0 cannot be played: .* move a wall or a goal$"):
            layout.require_playable()


def drawn(world: World, goals: int, **more: Any) -> Layout:
    return draw_layout(world, goals, 4, np.random.default_rng(0), **more)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: drawn(Open(size=2), 3), "goals = 3 with 2 starts need more than the 4 cells of a world of size 2"),
        (lambda: drawn(Open(), 1), "goals = 1 of 1 colours: give 2 or more"),
        (lambda: drawn(Open(), 4, colours=3), "goals = 4 of 3 colours: give 2 or more, and as many colours as goals"),
        (lambda: drawn(Obstacles(share=0.95), 4), "4 of 4 worlds could not be drawn in 200 tries .* set fewer goals"),
        (lambda: Open(size=1), "size = 1: a world has 2 to 99 cells along a side"),
        (lambda: Open(size=100), "size = 100: a world has 2 to 99"),
        (lambda: Open(slow=1.5), r"slow = 1\.5: give a share"),
        (lambda: Obstacles(share=1.0), "share = 1: give a share"),
        (lambda: Rooms(size=4), "size = 4: four rooms need 5"),
        (lambda: Rooms(doors=0), "doors = 0: a room without a door cannot be left"),
    ],
)
def test_what_cannot_be_is_refused(build, words) -> None:
    with pytest.raises(UsageError, match=f"^{words}"):
        build()
