"""What every search owes, asked of each file in the family's folder."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

import pytest

from etude.core.errors import UsageError
from etude.core.family import Family
from etude.core.spec import Spec
from etude.studies.search.base import Search
from etude.studies.search.random import Random
from etude.studies.sections.axes import Axis, Point, read_axes

FAMILY = Family("studies/search")
ARGUMENTS: dict[str, dict[str, Any]] = {"random": {"n": 7}, "optuna": {"n": 7, "startup": 3}}
"""How a test makes one of a member; those left out need nothing."""

NEEDS = {"optuna": "optuna"}
"""What a member needs that is not always there."""


@dataclass(frozen=True)
class Field(Spec):
    """What is swept here."""

    rate: float = 0.1
    count: int = 2
    word: str = "a"


AXES = read_axes(["rate=1e-3..1e-1:log:4", "count=1..3", "word=a,b"], Field())
OPEN = read_axes(["rate=1e-3..1e-1:log", "count=1..300:log"], Field())


def known(point: Point) -> float:
    """A score that anyone can work out."""
    return sum(len(str(setting)) for setting in point) + abs(math.log(float(point[0][0])))


@pytest.fixture(params=FAMILY.names())
def search(request: pytest.FixtureRequest) -> Search:
    if request.param in NEEDS:
        pytest.importorskip(NEEDS[request.param], reason="an extra that is not installed")
    return cast(Search, FAMILY.member(request.param)(**ARGUMENTS.get(request.param, {})))


def asked(search: Search, axes: Sequence[Axis] = AXES) -> list[Point]:
    """Ask a search until it wants nothing new, each time with the scores of what it asked for before."""
    scores: dict[Point, float] = {}
    while True:
        points = search.points(axes, scores.get)
        new = [point for point in points if point not in scores]
        assert points[: len(scores)] == list(scores), "what was asked for before is asked for first"
        if not new:
            return points
        scores |= {point: known(point) for point in new}


def test_the_family_has_its_members():
    assert {"grid", "random", "optuna"} <= set(FAMILY.names())
    assert FAMILY.base() is Search and FAMILY.noun == "search"


def test_it_explains_its_fields_and_reads_back(search):
    doc = type(search).__doc__ or ""
    assert all(f"{field.name}: " in doc for field in fields(search))
    assert Search.from_json(json.loads(json.dumps(search.to_json()))) == search


def test_its_points_lie_on_the_axes_and_none_comes_twice(search):
    points = asked(search)
    assert points and len(set(points)) == len(points)
    for point in points:
        assert all(setting in axis.spelled() for axis, setting in zip(AXES, point, strict=True))


def test_it_asks_for_the_same_again(search):
    whole = asked(search)
    assert asked(search) == whole
    assert search.points(AXES, known) == whole
    # Stopped anywhere, with any part of the scores, it asks for some of the same and nothing else.
    for n in range(len(whole)):
        scores = {point: known(point) for point in whole[:n]}
        assert set(search.points(AXES, scores.get)) <= set(whole)


def test_one_that_looks_ahead_needs_no_score(search):
    ahead = search.points(AXES, lambda point: None)
    assert (len(ahead) == len(asked(search))) == search.looks_ahead


def test_open_ranges_are_drawn_from_or_refused(search):
    if search.name == "grid":
        with pytest.raises(UsageError, match="a grid needs to know how many values of rate"):
            search.points(OPEN, known)
        return
    for (rate,), (count,) in asked(search, OPEN):
        assert 1e-3 <= rate <= 1e-1 and isinstance(count, int) and 1 <= count <= 300


@pytest.mark.parametrize("axes", [AXES, OPEN], ids=["spelled", "open"])
def test_more_random_points_contain_the_fewer(axes):
    ten, five = (Random(n=n, seed=3).points(axes, known) for n in (10, 5))
    assert ten[:5] == five
    assert Random(n=10, seed=4).points(axes, known) != ten


def test_random_points_can_be_all_there_are_and_no_more():
    every = 4 * 3 * 2
    assert len(set(Random(n=every).points(AXES, known))) == every
    with pytest.raises(UsageError, match=f"n = {every + 1} points are wanted and the axes have {every}"):
        Random(n=every + 1).points(AXES, known)


def test_a_range_with_few_numbers_of_four_figures_is_said_and_not_searched_for_ever():
    with pytest.raises(UsageError, match=r"n = 20 points are wanted and only 3 came that differ, .* draw fewer"):
        Random(n=20).points(read_axes(["rate=1e-3..1.002e-3"], Field()), known)


def test_random_points_spread_evenly_in_the_logarithm():
    rates = [point[0][0] for point in Random(n=400).points(OPEN, known)]
    assert sum(rate < 1e-2 for rate in rates) == pytest.approx(200, abs=40)


def test_too_few_are_refused():
    from etude.studies.search.optuna import Optuna

    with pytest.raises(UsageError, match="n = 0 points are too few"):
        Random(n=0)
    with pytest.raises(UsageError, match="together = 0 is too small"):
        Optuna(together=0)
