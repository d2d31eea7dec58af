"""A walk as it happened: what moves in its drawing, and when."""

from __future__ import annotations

import numpy as np

from etude.culture.drawing import ROW, clock, place, strip, svg
from etude.culture.walk import Walk
from etude.report.blocks import Drawing, Prose, Track

SECONDS = 0.28
"""Of one step."""
REST = 2.5
"""Seconds for which the end is shown before it begins again."""


def drawn(walk: Walk, caption: Prose, *, moving: bool = True, alt: str = "", runs: tuple[str, ...] = ()) -> Drawing:
    """Return a walk as a block of a report: an animation whose still has the paths.

    Args:
        walk: what happened.
        caption: what it shows.
        moving: whether it moves at all.
        alt: the same for a person who cannot see it; by default what `Walk.told` says.
        runs: ids of the runs behind it.
    """
    steps = len(walk.seen)
    seconds = steps * SECONDS + REST
    tracks = _tracks(walk, steps * SECONDS / seconds / steps) if moving else ()
    return Drawing(svg(walk), caption, alt or walk.told(), tracks, seconds if moving else 0.0, runs)


def _tracks(walk: Walk, step: float) -> tuple[Track, ...]:
    """What moves, when one step takes a share of the whole."""
    steps, players = len(walk.seen), range(len(walk.names))
    left, right, down = clock(walk)
    ends = {0: (float(left), float(down)), steps: (float(right), float(down))}
    found = [_smooth("now", "place", ends, step)]
    for player in players:
        cells = walk.cells[:, player].tolist()
        places = {at: place(walk, cell, player) for at, cell in enumerate(cells) if _turns(cells, at)}
        found.append(_smooth(f"player{player}", "place", places, step))
        moved = np.concatenate([[0], np.cumsum(np.diff(walk.cells[:, player]) != 0)]).tolist()
        if moved[-1]:
            ahead = {at: float(moved[-1] - done) for at, done in enumerate(moved) if _turns(cells, at)}
            found.append(_smooth(f"path{player}", "dash", ahead, step))
        shown = {at: (0.0, float(-n * ROW)) for n, (at, _) in enumerate(strip(walk, player))}
        found.append(_leaping(f"score{player}", "place", shown, step))
        if player:
            changes = [0, *(np.flatnonzero(np.diff(walk.seen)) + 1).tolist()]
            for face, when in (("seen", True), ("unseen", False)):
                values = {at: float(walk.seen[at] == when) for at in changes}
                found.append(_leaping(f"{face}{player}", "opacity", values, step))
    return tuple(found)


def _smooth(part: str, way: str, values: dict[int, float] | dict[int, tuple[float, float]], step: float) -> Track:
    """A track that ends where it is, and stays there for the rest of the time."""
    times = [at * step for at in values]
    more = times[-1] < 1
    return Track(part, way, (*times, *[1.0] * more), (*values.values(), *list(values.values())[-1:] * more), True)


def _leaping(part: str, way: str, values: dict[int, float] | dict[int, tuple[float, float]], step: float) -> Track:
    return Track(part, way, tuple(at * step for at in values), tuple(values.values()))


def _turns(cells: list[int], at: int) -> bool:
    """Whether a walk needs a point here: it does unless it goes straight on, or stays, before and after alike."""
    if at in (0, len(cells) - 1):
        return True
    return cells[at] - cells[at - 1] != cells[at + 1] - cells[at]
