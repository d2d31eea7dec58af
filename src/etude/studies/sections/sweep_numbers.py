"""The numbers of a sweep: the points best first, how far each is from the best, edges, and what each axis does."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.core.within import changed
from etude.evals.statistics import Estimate, mean
from etude.studies.sections.axes import Axis, Point
from etude.studies.sections.scores import score_of

if TYPE_CHECKING:
    from etude.studies.sweep import Sweep

BINS = 4
"""Parts of equal count that the points of a range are put into, to see what the axis does."""

MOST_LEVELS = 8
"""An axis of more settings than this is put into bins too."""


@dataclass(frozen=True, eq=False)
class Tried:
    """One point with its scores.

    Attributes:
        point: where.
        words: its settings as a table shows them, one an axis.
        runs: one a seed.
        scores: [seeds] the metric of each.
    """

    point: Point
    words: tuple[str, ...]
    runs: tuple[Run, ...]
    scores: np.ndarray

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(run.id for run in self.runs)

    @property
    def mean(self) -> float:
        return float(self.scores.mean())

    @property
    def estimate(self) -> Estimate:
        """The mean over seeds, with Student's interval where there are several."""
        return mean(self.scores)


@dataclass(frozen=True, eq=False)
class Level:
    """The points that one axis holds at one setting, or within one part of its range.

    Attributes:
        words: the setting, or the part.
        tried: the points.
        estimate: their mean. In a grid over seeds, of the mean over all the other axes; else over the points, as drawn.
    """

    words: str
    tried: tuple[Tried, ...]
    estimate: Estimate

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(name for each in self.tried for name in each.ids)


@dataclass(frozen=True, eq=False)
class Effect:
    """What one axis does.

    Attributes:
        axis: which.
        levels: in its order.
        share: of the variance between the points' means, what the levels' means hold.
    """

    axis: Axis
    levels: tuple[Level, ...]
    share: float


def tried(study: Sweep, done: Mapping[Recipe, Run]) -> list[Tried]:
    """Return every point with its scores, best first."""
    found = []
    for point in study.points(done):
        runs = tuple(done[trial] for trial in study.trials(point))
        words = tuple(axis.written(setting) for axis, setting in zip(study.read, point, strict=True))
        found.append(Tried(point, words, runs, np.array([score_of(run, study.metric) for run in runs])))
    sign = 1 if study.better == "lower" else -1
    return sorted(found, key=lambda each: sign * each.mean)


def behind(each: Tried, best: Tried) -> Estimate:
    """Return how much a point's score differs from the best point's, paired by seed."""
    return mean(each.scores - best.scores)


def is_apart(study: Sweep, difference: Estimate) -> bool:
    """Return whether a difference to the best point is more than the seeds'."""
    return difference.above(0) if study.better == "lower" else difference.below(0)


def edges(study: Sweep, best: Tried) -> list[tuple[Axis, str, str]]:
    """Return the axes on whose edge the best point lies: which, `lowest` or `highest`, and the setting in words.

    An edge that the recipe refuses to go beyond, as a dropout of 0, is none.
    """
    found = []
    for axis, setting, words in zip(study.read, best.point, best.words, strict=True):
        edge = axis.edge(setting)
        if edge and _goes_on(study, best.point, axis, edge):
            found.append((axis, edge, words))
    return found


def _goes_on(study: Sweep, point: Point, axis: Axis, edge: str) -> bool:
    """Whether the recipe takes a setting past an edge."""
    held = {path: value for a, s in zip(study.read, point, strict=True) for path, value in zip(a.paths, s, strict=True)}
    for setting in axis.beyond(edge):
        with contextlib.suppress(UsageError):
            changed(study.of, {**held, axis.paths[0]: setting[0]})
            return True
    return False


def effects(study: Sweep, points: Sequence[Tried]) -> list[Effect]:
    """Return what each axis does, that which moves the score most first. Axes with one level are left out."""
    found = [_effect(study, n, axis, points) for n, axis in enumerate(study.read)]
    return sorted((effect for effect in found if len(effect.levels) > 1), key=lambda effect: -effect.share)


def _effect(study: Sweep, n: int, axis: Axis, points: Sequence[Tried]) -> Effect:
    groups = _groups(n, axis, points)
    by_seed = (
        study.search.looks_ahead and len({len(group) for group in groups.values()}) == 1 and _is_grid(study, points)
    )
    levels = tuple(
        Level(
            words,
            tuple(group),
            mean(np.mean([each.scores for each in group], axis=0) if by_seed else np.array([e.mean for e in group])),
        )
        for words, group in groups.items()
    )
    every = np.array([each.mean for each in points])
    between = sum(len(level.tried) * (np.mean([e.mean for e in level.tried]) - every.mean()) ** 2 for level in levels)
    total = float(((every - every.mean()) ** 2).sum())
    return Effect(axis, levels, float(between) / total if total else 0.0)


def _is_grid(study: Sweep, points: Sequence[Tried]) -> bool:
    """Whether every combination of the settings was tried, so that each level sees the same of all other axes."""
    settings = [len({each.point[n] for each in points}) for n in range(len(study.read))]
    return int(np.prod(settings)) == len(points)


def _groups(n: int, axis: Axis, points: Sequence[Tried]) -> dict[str, list[Tried]]:
    """Return the points by their settings on an axis, in its order; by parts of equal count where they are many."""
    at = {each: axis.number(each.point[n]) for each in points}
    settings = list(dict.fromkeys(axis.spelled() if axis.settings else ())) or sorted({e.point[n] for e in points})
    if len(settings) <= MOST_LEVELS:
        grouped = {setting: [each for each in points if each.point[n] == setting] for setting in settings}
        return {axis.written(setting): group for setting, group in grouped.items() if group}
    ordered = sorted(points, key=lambda each: (at[each] or 0.0, each.words))
    parts = [part.tolist() for part in np.array_split(np.arange(len(ordered)), min(BINS, len(ordered)))]
    found = {}
    for part in parts:
        group = [ordered[i] for i in part]
        found[f"{group[0].words[n]} to {group[-1].words[n]}"] = group
    return found


def numbers(study: Sweep, done: Mapping[Recipe, Run]) -> dict[str, Any]:
    """Return the points, effects, edges and findings as JSON data."""
    from etude.studies.sections.sweep_findings import findings, plain

    points = tried(study, done)
    best, said = points[0], findings(study, points)
    return {
        "metric": study.metric,
        "better": study.better,
        "best": {"point": study.named(best.point), "score": best.estimate.to_json(), "runs": list(best.ids)},
        "points": [_row(study, each, best) for each in points],
        "effects": [
            {
                "axis": effect.axis.name,
                "share": effect.share,
                "levels": [{"setting": level.words, **level.estimate.to_json()} for level in effect.levels],
            }
            for effect in effects(study, points)
        ],
        "edges": [{"axis": axis.name, "edge": edge, "setting": words} for axis, edge, words in edges(study, best)],
        "findings": [{"text": plain(finding.text), "strength": finding.strength} for finding in said],
    }


def _row(study: Sweep, each: Tried, best: Tried) -> dict[str, Any]:
    difference = behind(each, best)
    return {
        "point": study.named(each.point),
        "settings": dict(zip((axis.name for axis in study.read), each.words, strict=True)),
        "score": each.estimate.to_json(),
        "behind": None if each is best else difference.to_json(),
        "apart": each is not best and is_apart(study, difference),
        "runs": list(each.ids),
    }
