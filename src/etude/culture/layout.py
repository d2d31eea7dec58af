"""Where everything stands in a batch of worlds before the first step, and the hidden order of the goals."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Int

from etude.core.errors import UsageError
from etude.culture.routes import FAR, routes
from etude.culture.worlds.base import World

TRIES = 200
"""How often worlds that cannot be played are drawn again before the choice of world is refused."""


@dataclass(frozen=True)
class Layout:
    """B worlds, drawn.

    Attributes:
        size: cells along a side.
        walls: cells that cannot be entered.
        slow: cells that hold a player for a step.
        goals: the cell of the goal of each colour; -1 where a world has none.
        following: the colour that comes after each in the hidden order; -1 where there is none.
        starts: where each player begins.
        away: steps from each cell to each goal, past the others (`etude.culture.routes`).
        steer: the action that begins them.
    """

    size: int
    walls: Bool[np.ndarray, "B C"]
    slow: Bool[np.ndarray, "B C"]
    goals: Int[np.ndarray, "B G"]
    following: Int[np.ndarray, "B G"]
    starts: Int[np.ndarray, "B P"]
    away: Int[np.ndarray, "B G C"]
    steer: Int[np.ndarray, "B G C"]

    @staticmethod
    def of(
        size: int,
        walls: Bool[np.ndarray, "B C"],
        slow: Bool[np.ndarray, "B C"],
        goals: Int[np.ndarray, "B G"],
        following: Int[np.ndarray, "B G"],
        starts: Int[np.ndarray, "B P"],
    ) -> Layout:
        """Return a layout, its routes found."""
        return Layout(size, walls, slow, goals, following, starts, *routes(size, walls, slow, goals))

    def __len__(self) -> int:
        return len(self.goals)

    def __getitem__(self, which: Bool[np.ndarray, " B"] | Int[np.ndarray, " N"] | slice) -> Layout:
        """Return some of the worlds."""
        return Layout(self.size, *(getattr(self, name)[which] for name in _ARRAYS))

    def in_colours(self, colours: int) -> Layout:
        """Return the same worlds among more colours, of which the last are in none.

        Raises:
            UsageError: they have more than that.
        """
        more = colours - self.goals.shape[1]
        if more < 0:
            raise UsageError(f"{self.goals.shape[1]} colours do not fit into {colours}: give as many or more")
        row, table = ((0, 0), (0, more)), ((0, 0), (0, more), (0, 0))
        goals, following = (np.pad(x, row, constant_values=-1) for x in (self.goals, self.following))
        away, steer = np.pad(self.away, table, constant_values=FAR), np.pad(self.steer, table)
        return Layout(self.size, self.walls, self.slow, goals, following, self.starts, away, steer)

    @property
    def playable(self) -> Bool[np.ndarray, " B"]:
        """Of each world, whether no goal and no player stands in a wall or on a goal, and every goal can be reached
        from every start and from every other goal without entering a third."""
        each = np.arange(len(self))[:, None]
        places = np.concatenate([self.starts, np.maximum(self.goals, 0)], axis=1)
        there = np.concatenate([np.ones_like(self.starts, dtype=bool), self.goals >= 0], axis=1)
        free = ~(self.walls[each, places] & there).any(1)
        shared = (places[:, :, None] == self.goals[:, None, :]) & there[:, :, None]  # each goal once, with itself
        free &= shared.sum((1, 2)) == (self.goals >= 0).sum(1)
        steps = np.take_along_axis(self.away, places[:, None, :], axis=2)  # [B G P+G]
        needed = (self.goals >= 0)[:, :, None] & there[:, None, :]
        return free & ((steps < FAR) | ~needed).all((1, 2))

    def require_playable(self) -> None:
        """Raise UsageError where an expert could not reach a goal."""
        bad = np.flatnonzero(~self.playable)
        if len(bad):
            raise UsageError(
                f"world {bad[0]} cannot be played: a goal or a start is in a wall or on a goal, or a goal cannot be"
                " reached from one of them without entering a third; move a wall or a goal"
            )


_ARRAYS = [f.name for f in fields(Layout) if f.name != "size"]


def joined(layouts: list[Layout]) -> Layout:
    """Return layouts of one size as one."""
    return Layout(layouts[0].size, *(np.concatenate([getattr(each, name) for each in layouts]) for name in _ARRAYS))


def draw_layout(
    world: World,
    goals: int,
    worlds: int,
    draw: np.random.Generator,
    *,
    colours: int = 0,
    players: int = 2,
    beside: bool = False,
) -> Layout:
    """Draw so many worlds in which every goal can be reached; those that walls or goals cut in parts are drawn again.

    Args:
        world: where walls stand.
        goals: how many there are in a world.
        worlds: how many worlds.
        draw: the generator.
        colours: how many colours goals may have, at least as many as goals; 0 is as many.
        players: how many there are.
        beside: whether all players begin in one cell.

    Raises:
        UsageError: the world has no room for them, or too few draws can be played.
    """
    colours = colours or goals
    if not 2 <= goals <= colours:
        raise UsageError(f"goals = {goals} of {colours} colours: give 2 or more, and as many colours as goals")
    standing = 1 if beside else players
    if goals + standing > world.size**2:
        raise UsageError(
            f"goals = {goals} with {standing} starts need more than the {world.size**2} cells of a world of size"
            f" {world.size}: set a larger size"
        )
    kept: list[Layout] = []
    missing = worlds
    for _ in range(TRIES):
        drawn = _draw(world, goals, max(missing, 8), draw, colours, players, beside)
        kept.append(drawn[np.flatnonzero(drawn.playable)[:missing]])
        missing -= len(kept[-1])
        if not missing:
            return joined(kept) if len(kept) > 1 else kept[0]
    raise UsageError(
        f"{missing} of {worlds} worlds could not be drawn in {TRIES} tries so that {goals} goals can be reached: set"
        " fewer goals or walls, or a larger size"
    )


def _draw(
    world: World, goals: int, worlds: int, draw: np.random.Generator, colours: int, players: int, beside: bool
) -> Layout:
    walls = world.walls(worlds, draw)
    slow = world.mud(worlds, draw) & ~walls
    free_first = np.argsort(draw.random(walls.shape) + 2 * walls, axis=1)
    standing = 1 if beside else players
    cells, starts = free_first[:, :goals], free_first[:, goals : goals + standing]
    sequence = np.argsort(draw.random((worlds, colours)), axis=1)[:, :goals]  # colours in their hidden order
    placed = np.full((worlds, colours), -1, np.int64)
    following = np.full((worlds, colours), -1, np.int64)
    np.put_along_axis(placed, sequence, cells, 1)
    np.put_along_axis(following, sequence, np.roll(sequence, -1, axis=1), 1)
    starts = np.broadcast_to(starts, (worlds, players)) if beside else starts
    return Layout.of(world.size, walls, slow, placed, following, starts)
