"""The numbers of a family's tasks: each model's scores by task and category, and how they grow with parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.core.seeds import stream
from etude.evals.items import items_of
from etude.evals.judging import blind, calibration
from etude.evals.statistics import Estimate
from etude.studies.sections.family_numbers import slopes

if TYPE_CHECKING:
    from etude.models.recipes import ModelRecipe
    from etude.studies.family import Family

ALL = "all tasks"
UNCATEGORISED = "other"

LEAST = 20
"""Items below which nothing is called clear: a bootstrap of a few of them knows no doubt."""


@dataclass(frozen=True)
class Scored:
    """One task, asked of every model.

    Attributes:
        category: what it is counted under.
        name: what tables call it.
        measure: what is measured.
        right: [S, N] the score of each model, smallest first, on each item.
        mass: [S, N] the share of the probability of all answers that the right ones have; None where there is nothing
            to choose.
        chance: what choosing blindly comes to.
        always_one: what always giving the same number of choice comes to, or None.
        masked: items that were left out.
        unfit: items that did not fit the context of some model, and are left out of all.
        runs: the evaluations, smallest model first.
        rows: what was made of each item by each model, where there are choices.
    """

    category: str
    name: str
    measure: str
    right: np.ndarray
    mass: np.ndarray | None
    chance: float
    always_one: float | None
    masked: int
    unfit: int
    runs: tuple[str, ...]
    rows: tuple[tuple[dict[str, Any], ...], ...] = ()


@dataclass(frozen=True)
class Grown:
    """How a category's score goes with parameters.

    Attributes:
        name: of the category.
        tasks: how many.
        items: how many.
        chance: the mean of its tasks' chance.
        blind: the mean of what always giving one number of choice comes to, or chance where there are none.
        able: whether the largest model is better than that where there are choices, by an interval that is widened for
            all categories.
        scores: of each model, smallest first, with intervals.
        slope: per doubling of the parameters, by least squares, with its 95% interval.
        together: whether the slope's interval, widened so that all categories' hold together (Bonferroni), leaves out
            0, and on which side: 1, -1, or 0 where it does not.
        difference: the largest model's score less the smallest's.
        mass: the slope of the mass on the right answers per doubling; None where no task has any.
    """

    name: str
    tasks: int
    items: int
    chance: float
    blind: float
    able: bool
    scores: tuple[Estimate, ...]
    slope: Estimate
    together: int
    difference: Estimate
    mass: Estimate | None

    def to_json(self) -> dict[str, Any]:
        named = {
            name: getattr(self, name) for name in ("name", "tasks", "items", "chance", "blind", "able", "together")
        }
        return {
            **named,
            "scores": [score.to_json() for score in self.scores],
            "slope": self.slope.to_json(),
            "difference": self.difference.to_json(),
            "mass": None if self.mass is None else self.mass.to_json(),
        }


def members(study: Family, done: Mapping[Recipe, Run]) -> list[tuple[ModelRecipe, int]]:
    """Return the models with their numbers of parameters, embeddings included, smallest first.

    Raises:
        UsageError: all have as many.
    """
    sized = [(of, int(done[study.evaluations(of)[0]].result["parameters"])) for of in study.of]
    if len({parameters for _, parameters in sized}) < 2:
        raise UsageError(f"all models have {sized[0][1]:,} parameters: a family has at least two sizes")
    return sorted(sized, key=lambda pair: pair[1])


def scored(study: Family, done: Mapping[Recipe, Run]) -> list[Scored]:
    """Return every task that is left, on the items that every model was asked and the mask does not name.

    Raises:
        UsageError: none is left; or the mask names a file, and several tasks have files of that name.
    """
    masks, found = study.mask.masked(), list[Scored]()
    order = [of for of, _ in members(study, done)]
    files = dict[str, set[str]]()
    for number, listed in enumerate(study.tasks):
        runs = [done[study.evaluations(of)[number]] for of in order]
        held = [{row["number"]: row for row in items_of(run)} for run in runs]
        common = sorted(set.intersection(*(set(rows) for rows in held)))
        if not common:
            continue
        file = str(held[0][common[0]]["where"]).rpartition(", ")[0]
        files.setdefault(file, set()).add(listed.task.sha256)
        if file in masks and len(files[file]) > 1:
            raise UsageError(f"the mask names {file!r}, and several tasks have files of that name: rename one of them")
        kept = [n for n in common if n not in masks.get(file, ())]
        if not kept:
            continue
        rows = [[of_model[n] for n in kept] for of_model in held]
        metric = study.metric if study.metric in rows[0][0] else "accuracy"
        chance = blind(rows[0])
        found.append(
            Scored(
                listed.category or UNCATEGORISED,
                listed.name,
                listed.task.measure,
                np.array([[row[metric] for row in each] for each in rows]),
                np.array([[row["mass"] for row in each] for each in rows]) if "mass" in rows[0][0] else None,
                0.0 if chance is None else chance[0],
                None if chance is None else chance[1],
                len(common) - len(kept),
                max(int(run.result["n"]) + int(run.result["too_long"]) for run in runs) - len(common),
                tuple(run.id for run in runs),
                tuple(tuple(each) for each in rows) if chance is not None else (),
            )
        )
    if not found:
        raise UsageError("no item is left that every model was asked: their contexts are too short, or all are masked")
    return found


def unmet(study: Family, tasks: Sequence[Scored]) -> list[str]:
    """Return the names of tasks of which no item is left."""
    kept = {(task.category, task.name) for task in tasks}
    return [one.name for one in study.tasks if (one.category or UNCATEGORISED, one.name) not in kept]


def grown(study: Family, tasks: Sequence[Scored], sizes: Sequence[int]) -> list[Grown]:
    """Return how each category's score goes with parameters, and last that of all tasks.

    A task counts as much as any other of its category. Its items are drawn anew, the same ones for every model, so that
    what models have in common does not widen the interval of how they differ.
    """
    categories = list(dict.fromkeys(task.category for task in tasks))
    weights, several = slopes(np.array(sizes, np.float64)), max(1, len(categories))
    groups = [(name, [task for task in tasks if task.category == name]) for name in categories]
    if len(categories) > 1:
        groups.append((ALL, list(tasks)))
    return [_grown(study, name, held, weights, several) for name, held in groups]


def _grown(study: Family, name: str, tasks: Sequence[Scored], weights: np.ndarray, several: int) -> Grown:
    random = np.random.Generator(np.random.PCG64(stream(study.seed, "family", name)))
    right, mass = np.zeros((study.draws, len(weights))), np.zeros((study.draws, len(weights)))
    able = np.zeros(study.draws)
    with_mass = [task for task in tasks if task.mass is not None]
    choosing = [task for task in tasks if task.always_one is not None]
    drawn = dict[tuple[str, ...], np.ndarray]()  # a file under two categories has the same items in both
    for task in tasks:
        counts = drawn.setdefault(task.runs, _resampled(random, task.right.shape[1], study.draws))
        scores = counts @ task.right.T / task.right.shape[1]
        right += scores / len(tasks)
        if task.always_one is not None:
            able += (scores[:, -1] - max(task.chance, task.always_one)) / len(choosing)
        if task.mass is not None:
            mass += counts @ task.mass.T / task.mass.shape[1] / len(with_mass)
    means = np.mean([task.right.mean(axis=1) for task in tasks], axis=0)
    n = sum(task.right.shape[1] for task in tasks)
    wide, enough = _interval(right @ weights, 0.05 / several), n >= LEAST
    masses = (
        np.mean([task.mass.mean(axis=1) for task in with_mass if task.mass is not None], axis=0) if with_mass else 0
    )
    return Grown(
        name,
        len(tasks),
        n,
        float(np.mean([task.chance for task in tasks])),
        float(np.mean([max(task.chance, task.always_one or 0.0) for task in tasks])),
        enough and bool(choosing) and _interval(able, 0.05 / several)[0] > 0,
        tuple(_estimate(float(score), right[:, s], n) for s, score in enumerate(means)),
        _estimate(float(means @ weights), right @ weights, n),
        int(np.sign(wide[0])) if enough and wide[0] * wide[1] > 0 else 0,
        _estimate(float(means[-1] - means[0]), right[:, -1] - right[:, 0], n),
        _estimate(float(masses @ weights), mass @ weights, n) if with_mass else None,
    )


def _resampled(random: np.random.Generator, items: int, draws: int) -> np.ndarray:
    """Return how often each item is drawn in each draw [draws, items]."""
    return random.multinomial(items, np.full(items, 1 / items), size=draws).astype(np.float64)


def _interval(draws: np.ndarray, outside: float) -> tuple[float, float]:
    low, high = np.quantile(draws, [outside / 2, 1 - outside / 2])
    return float(low), float(high)


def _estimate(value: float, draws: np.ndarray, n: int) -> Estimate:
    low, high = _interval(draws, 0.05)
    return Estimate(value, min(low, value), max(high, value), n)


def calibrations(study: Family, done: Mapping[Recipe, Run], tasks: Sequence[Scored]) -> list[dict[str, Any]]:
    """Return, of each model, smallest first, how its confidence goes with being right over all items with choices that
    every model was asked."""
    once = list({task.runs: task for task in tasks if task.rows}.values())
    found = []
    for number, (of, parameters) in enumerate(members(study, done)):
        rows = [row for task in once for row in task.rows[number]]
        if rows:
            found.append({"parameters": parameters, "run": done[of].id, "n": len(rows), **calibration(rows)})
    return found


def numbers(study: Family, done: Mapping[Recipe, Run]) -> dict[str, Any]:
    """Return the study's numbers."""
    from etude.studies.sections.findings import plain
    from etude.studies.sections.tasks_page import findings

    order, tasks = members(study, done), scored(study, done)
    found = grown(study, tasks, [parameters for _, parameters in order])
    told = findings(study, done, tasks, found)
    return {
        "members": [{"id": done[of].id, "parameters": parameters} for of, parameters in order],
        "categories": [one.to_json() for one in found],
        "tasks": [
            {
                "category": task.category,
                "name": task.name,
                "n": task.right.shape[1],
                "chance": task.chance,
                "always_one": task.always_one,
                "masked": task.masked,
                "left_out": task.unfit,
                "scores": task.right.mean(axis=1).tolist(),
                "runs": task.runs,
            }
            for task in tasks
        ],
        "left": unmet(study, tasks),
        "calibration": calibrations(study, done, tasks),
        "findings": [{"text": plain(one.text), "strength": one.strength} for one in told],
    }
