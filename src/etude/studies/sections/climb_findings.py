"""What the study of the ladder says in words, generated from the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.report.blocks import Finding, Value, text
from etude.studies.sections.cards import measured
from etude.studies.sections.climb_numbers import Climbed, bar_of, climbed

if TYPE_CHECKING:
    from etude.studies.ladder import Ladder


def findings(study: Ladder, done: Mapping[Recipe, Run]) -> list[Finding]:
    """Return what was found, each with how firmly it stands."""
    found = []
    for environment in study.environments:
        rows = {name: climbed(study, done, environment, name) for name in study.algorithms}
        bar = bar_of(study, done, environment)
        if bar is None:
            found += [_beside_chance(study, environment, name, each) for name, each in rows.items()]
            continue
        found += [_bar(study, environment, name, each, bar) for name, each in rows.items()]
        found += _soonest(study, environment, rows, bar)
    return found


def _returns(rows: list[Climbed]) -> list[Any]:
    """Return the mean return of each seed, as parts of a sentence."""
    parts: list[Any] = []
    for row in rows:
        parts += [", " if parts else "", measured(row.found.to_json(), row.run, digits=2)]
    return parts


def _bar(study: Ladder, environment: str, name: str, rows: list[Climbed], bar: float) -> Finding:
    """Whether an algorithm's mean returns come to the bar."""
    there = sum(row.found.mean >= bar for row in rows)
    words = text(
        f"{study.member(name).label} comes to {bar:g} on {environment} with ",
        Value(there, run=tuple(row.run.id for row in rows)),
        f" of {_count(len(rows), 'seed')}. Mean returns over {study.episodes} fresh episodes: ",
        *_returns(rows),
        ".",
    )
    return Finding(words, "clear" if there == len(rows) else "uncertain" if there else "none")


def _beside_chance(study: Ladder, environment: str, name: str, rows: list[Climbed]) -> Finding:
    """Whether an algorithm does better than chance, where nothing more is asked for."""
    better = sum(row.found.low > row.random.high for row in rows)
    words = text(
        f"{study.member(name).label} does better than a random policy on {environment} with ",
        Value(better, run=tuple(row.run.id for row in rows)),
        f" of {_count(len(rows), 'seed')}. Mean returns over {study.episodes} fresh episodes: ",
        *_returns(rows),
        "; a random policy's, on those of the first: ",
        measured(rows[0].random.to_json(), rows[0].run, digits=2),
        ".",
    )
    return Finding(words, "clear" if better == len(rows) else "uncertain" if better else "none")


def _soonest(study: Ladder, environment: str, rows: dict[str, list[Climbed]], bar: float) -> list[Finding]:
    """Which algorithm came to the bar after the fewest steps, of those whose every seed did."""
    every = {name: [row.reached for row in each] for name, each in rows.items()}
    known = {name: np.array(each, float) for name, each in every.items() if None not in each}
    if len(known) < 2:
        return []
    order = sorted(known, key=lambda name: float(np.median(known[name])))
    first, second = order[:2]
    apart = known[first].max() < known[second].min() and study.seeds > 1

    def steps(name: str) -> Value:
        return Value(round(float(np.median(known[name]))), run=tuple(row.run.id for row in rows[name]), unit="steps")

    words = text(
        f"On {environment}, {study.member(first).label} first comes to {bar:g} in training, after ",
        steps(first),
        f" by the median of its seeds; {study.member(second).label} is next, after ",
        steps(second),
        ". " + ("Its slowest seed is ahead of the other's quickest." if apart else "Their seeds overlap."),
    )
    return [Finding(words, "clear" if apart else "uncertain")]


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")
