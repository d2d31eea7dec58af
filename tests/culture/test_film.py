"""A walk as it is drawn: where the parts are at each step is where the players were."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.culture.plain import layouts, walks

from etude.core.errors import UsageError
from etude.culture.drawing import place, stretches, svg
from etude.culture.film import REST, SECONDS, drawn
from etude.culture.goal_cycle import GoalCycle
from etude.culture.layout import Layout
from etude.culture.walk import Walk
from etude.report.blocks import Drawing


def walked(layout: Layout, seed: int, steps: int = 30) -> Walk:
    """Return what random players did in the first world."""
    one = layout[:1]
    game, cells, entered = GoalCycle(one), [one.starts[0]], []
    for actions in walks(one, steps, seed):
        entered.append(game.step(actions)[0])
        cells.append(game.cells[0])
    seen = np.random.default_rng(seed).random(steps) < 0.5
    return Walk(one, np.array(cells), np.array(entered), seen)


def at(drawing: Drawing, part: str, way: str, step: float, steps: int) -> np.ndarray:
    """Return what a track holds after some steps, as a browser plays it."""
    track = next(t for t in drawing.tracks if (t.part, t.way) == (part, way))
    time = step * SECONDS / (steps * SECONDS + REST)
    values, times = np.array(track.values, float).reshape(len(track.times), -1), np.array(track.times)
    if track.smooth:
        return np.array([np.interp(time, times, column) for column in values.T])
    return values[np.searchsorted(times, time + 1e-9, side="right") - 1]


@given(layouts(worlds=1), st.integers(0, 2**20))
@settings(max_examples=25, deadline=None)
def test_the_film_shows_each_step_as_it_was(layout: Layout, seed: int) -> None:
    walk = walked(layout, seed)
    steps, drawing = len(walk.seen), drawn(walk, "c")
    parts = {e.attrib["data-part"]: e for e in ElementTree.fromstring(drawing.svg).iter() if "data-part" in e.attrib}
    for player in (0, 1):
        strip = [int((text.text or "").replace("−", "-")) for text in parts[f"score{player}"]]
        moved = np.cumsum(np.diff(walk.cells[:, player]) != 0)
        for step in range(steps + 1):
            where = at(drawing, f"player{player}", "place", step, steps)
            np.testing.assert_allclose(where, place(walk, int(walk.cells[step, player]), player), atol=1e-6)
            row = -at(drawing, f"score{player}", "place", step, steps)[1] / 24
            assert strip[round(row)] == walk.scores[step, player]
            if step and moved[-1]:
                left = at(drawing, f"path{player}", "dash", step, steps)
                assert left == pytest.approx(moved[-1] - moved[step - 1])
    for step in range(steps):
        shown = [float(at(drawing, f"{face}1", "opacity", step, steps)[0]) for face in ("seen", "unseen")]
        assert shown == [walk.seen[step], not walk.seen[step]]


@given(layouts(worlds=1), st.integers(0, 2**20))
@settings(max_examples=25, deadline=None)
def test_the_still_is_the_last_of_the_film_with_the_paths(layout: Layout, seed: int) -> None:
    walk = walked(layout, seed)
    steps, drawing = len(walk.seen), drawn(walk, "c")
    root = ElementTree.fromstring(drawing.svg)
    parts = {e.attrib["data-part"]: e for e in root.iter() if "data-part" in e.attrib}
    for player in (0, 1):
        for part in (f"player{player}", f"score{player}"):
            put = [float(x) for x in re.findall(r"-?[\d.]+", parts[part].attrib["transform"])]
            np.testing.assert_allclose(put, at(drawing, part, "place", steps, steps), atol=0.06)
        cells = walk.cells[:, player]
        path = cells[np.flatnonzero(np.diff(cells, prepend=-1))]
        if len(path) > 1:
            points = [tuple(map(float, pair.split(","))) for pair in parts[f"path{player}"].attrib["points"].split()]
            np.testing.assert_allclose(points, [place(walk, int(cell), player) for cell in path], atol=0.06)
    assert (parts["seen1"].attrib["opacity"], parts["unseen1"].attrib["opacity"]) == (
        ("1", "0") if walk.seen[-1] else ("0", "1")
    )
    words = [e.text for e in root.iter() if e.tag.endswith("text")]
    assert [int(word) - 1 for word in words[1 : len(walk.order) + 2] if word] == [*walk.order, walk.order[0]]
    ticks = len(re.findall(r'v-9"', drawing.svg)), len(re.findall(r'v9"', drawing.svg))
    assert ticks == ((walk.entered[:, 0] > 0).sum(), (walk.entered[:, 0] < 0).sum())


def test_what_is_told_and_when_the_expert_leaves() -> None:
    nothing = np.zeros((1, 9), bool)
    goals, following = np.array([[0, 2, 8]]), np.array([[2, 0, 1]])
    layout = Layout.of(3, nothing, nothing, goals, following, np.array([[1, 1]]))
    cells, entered = np.array([[1, 1], [0, 2], [0, 5], [1, 8]]), np.array([[1, 1], [0, 0], [0, -1]])
    walk = Walk(layout, cells, entered, np.array([True, True, False]), ("pupil", "<master>"))
    assert (walk.leaves, walk.order, walk.scores[-1].tolist()) == (2, [0, 2, 1], [1, 0])
    assert walk.told() == (
        "GoalCycle on 3 by 3 cells, the goals in the hidden order 1, 3, 2. In 3 steps the pupil 1, the <master> 0"
        " points. The <master> is seen no more after step 2."
    )
    assert "&lt;master&gt; leaves" in svg(walk) and "never" not in svg(walk)
    absent = Walk(layout, cells, entered, np.zeros(3, bool))
    assert absent.leaves == 0 and "expert is never seen" in svg(absent) and "is never seen" in absent.told()
    always = Walk(layout, cells, entered, np.ones(3, bool))
    assert always.leaves is None and "leaves" not in svg(always)
    assert drawn(walk, "c", moving=False).tracks == () and drawn(walk, "c", alt="mine").alt == "mine"


def test_one_that_never_moves_and_one_that_is_alone_are_drawn() -> None:
    nothing = np.zeros((1, 9), bool)
    layout = Layout.of(3, nothing, nothing, np.array([[0, 8]]), np.array([[1, 0]]), np.array([[4]]))
    walk = Walk(layout, np.full((3, 1), 4), np.zeros((2, 1), int), np.ones(2, bool), ("learner",))
    drawing = drawn(walk, "c")
    assert {track.part for track in drawing.tracks} == {"now", "player0", "score0"} and "expert" not in drawing.svg


def test_stretches() -> None:
    seen = np.array([True, True, False, True])
    assert stretches(seen) == [(0, 2), (3, 4)] and stretches(np.zeros(3, bool)) == []


@pytest.mark.parametrize("change", ["cells", "entered", "worlds", "steps"])
def test_arrays_that_do_not_fit_are_refused(change: str) -> None:
    nothing = np.zeros((2, 9), bool)
    layout = Layout.of(3, nothing, nothing, np.array([[0, 8]] * 2), np.array([[1, 0]] * 2), np.array([[4, 4]] * 2))
    cells, entered, seen, worlds = np.full((4, 2), 4), np.zeros((3, 2), int), np.ones(3, bool), 1
    cells = cells[:3] if change == "cells" else cells
    entered = entered[:, :1] if change == "entered" else entered
    worlds = 2 if change == "worlds" else 1
    if change == "steps":
        cells, entered, seen = cells[:1], entered[:0], seen[:0]
    with pytest.raises(UsageError, match=r"^a walk of \d steps and 2 players has one world"):
        Walk(layout[:worlds], cells, entered, seen)
