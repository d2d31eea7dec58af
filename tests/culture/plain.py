"""GoalCycle once more, slowly: one world at a time, in dictionaries and sets, written from the rules alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
from hypothesis import strategies as st

from etude.core.errors import UsageError
from etude.culture.layout import Layout, draw_layout
from etude.culture.worlds.obstacles import Obstacles
from etude.culture.worlds.open import Open
from etude.culture.worlds.rooms import Rooms

Place = tuple[int, int]
WAYS = {0: (0, 0), 1: (-1, 0), 2: (0, 1), 3: (1, 0), 4: (0, -1)}


class PlainWorld:
    """One world of a layout, taken apart."""

    def __init__(self, layout: Layout, number: int) -> None:
        self.size = layout.size
        places = {cell: divmod(cell, layout.size) for cell in range(layout.size**2)}
        self.walls = {place for cell, place in places.items() if layout.walls[number, cell]}
        self.slow = {place for cell, place in places.items() if layout.slow[number, cell]}
        goals = {colour: int(cell) for colour, cell in enumerate(layout.goals[number]) if cell >= 0}
        self.colour_at = {places[cell]: colour for colour, cell in goals.items()}
        self.goals = {colour: places[cell] for colour, cell in goals.items()}
        self.after = {colour: int(layout.following[number, colour]) for colour in goals}
        self.starts = [places[int(cell)] for cell in layout.starts[number]]

    def to(self, place: Place, action: int) -> Place:
        """Return where an action leads, past no wall and no edge."""
        there = (place[0] + WAYS[action][0], place[1] + WAYS[action][1])
        inside = 0 <= there[0] < self.size and 0 <= there[1] < self.size
        return there if inside and there not in self.walls else place

    def steps(self, start: Place, goal: int) -> int | None:
        """Return the steps from a cell to a goal past the others, by breadth-first search over (cell, held)."""
        seen, queue = {(start, start in self.slow)}, deque([((start, start in self.slow), 0)])
        while queue:
            (place, held), taken = queue.popleft()
            if place == self.goals[goal]:
                return taken
            for there, stuck in self.next_states(place, held):
                passed = there == place or self.colour_at.get(there, goal) == goal
                if passed and (there, stuck) not in seen:
                    seen.add((there, stuck))
                    queue.append(((there, stuck), taken + 1))
        return None

    def next_states(self, place: Place, held: bool) -> Iterator[tuple[Place, bool]]:
        """Yield each cell that a step may lead to, and whether one is held there."""
        for action in WAYS if not held else [0]:
            there = self.to(place, action)
            yield there, there != place and there in self.slow

    def most(self, player: int, steps: int, mistakes: bool = False) -> int:
        """Return the most that a player can count, by a search of every (cell, held, last goal), step by step.

        Args:
            player: whose start is the beginning.
            steps: how many are taken.
            mistakes: whether it may enter a wrong goal, which takes one away.
        """
        states: dict[tuple[Place, bool, int | None], int] = {(self.starts[player], False, None): 0}
        for _ in range(steps):
            found: dict[tuple[Place, bool, int | None], int] = {}
            for (place, held, last), score in states.items():
                for there, stuck in self.next_states(place, held):
                    goal = self.colour_at.get(there) if there != place else None
                    right = goal is not None and (last is None or self.after[last] == goal)
                    if goal is not None and not right and not mistakes:
                        continue
                    key = (there, stuck, goal if right else last)
                    counted = score + (0 if goal is None else 1 if right else -1)
                    found[key] = max(found.get(key, -steps), counted)
            states = found
        return max(states.values())


class PlainGame:
    """One world under way, player by player."""

    def __init__(self, world: PlainWorld) -> None:
        self.world = world
        self.places = list(world.starts)
        self.last: list[int | None] = [None] * len(self.places)
        self.held = [False] * len(self.places)

    def step(self, actions: list[int]) -> list[int]:
        """Return what each player entered."""
        return [self._move(player, action) for player, action in enumerate(actions)]

    def _move(self, player: int, action: int) -> int:
        world, before = self.world, self.places[player]
        if self.held[player]:
            self.held[player] = False
            return 0
        there = self.places[player] = world.to(before, action)
        if there == before:
            return 0
        self.held[player] = there in world.slow
        if there not in world.colour_at:
            return 0
        goal, last = world.colour_at[there], self.last[player]
        if last is not None and world.after[last] != goal:
            return -1
        self.last[player] = goal
        return 1


@st.composite
def layouts(draw: st.DrawFn, worlds: int = 3, players: int = 2) -> Layout:
    """Small worlds of every kind that can be played, with slow cells, walls, and colours that are not there."""
    size = draw(st.integers(3, 6))
    slow = draw(st.sampled_from([0.0, 0.0, 0.3, 1.0]))
    kind = draw(st.sampled_from(["open", "obstacles", "rooms"]))
    if kind == "rooms":
        world = Rooms(size=max(size, 5), slow=slow, doors=draw(st.integers(1, 2)))
    elif kind == "obstacles":
        world = Obstacles(size=size, slow=slow, share=draw(st.sampled_from([0.1, 0.25])))
    else:
        world = Open(size=size, slow=slow)
    goals = draw(st.integers(2, 4))
    colours = goals + draw(st.integers(0, 2))
    beside = draw(st.booleans())
    for seed in range(draw(st.integers(0, 2**20)), 2**21):  # very tight worlds may have none of these goals
        try:
            random = np.random.default_rng(seed)
            return draw_layout(world, goals, worlds, random, colours=colours, players=players, beside=beside)
        except UsageError:
            goals = 2
    raise AssertionError


def walks(layout: Layout, steps: int, seed: int) -> np.ndarray:
    """Return random actions [T B P], each done a few times over, so that players come round."""
    random = np.random.default_rng(seed)
    shape = (steps, len(layout), layout.starts.shape[1])
    return random.integers(0, 5, shape)
