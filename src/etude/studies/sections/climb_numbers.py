"""The numbers of the ladder: returns against what is asked for, learning curves, and how soon a bar is reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.statistics import Estimate
from etude.report.charts import Rule

if TYPE_CHECKING:
    from etude.studies.ladder import Ladder

BINS = 40
"""Points of a learning curve."""

RECENT = 20
"""Episodes in a row whose mean return has to come to a bar for it to be reached in training."""

KNOWN = {
    "CartPole-v1": (Rule("CartPole-v1 is solved, 475", 475.0), Rule("CartPole-v0 was, 195", 195.0)),
    "FrozenLake-v1:is_slippery=false": (Rule("the goal every time, 1", 1.0),),
    "CliffWalking-v1:max_episode_steps=200": (Rule("the shortest way, -13", -13.0),),
}
"""What is known of environments, the bar first: the registry's thresholds, and optima that follow from the map."""

WITHOUT_CHANCE = ("FrozenLake-v1:is_slippery=false", "CliffWalking-v1:max_episode_steps=200")
"""Environments in which the same actions always lead to the same."""


@dataclass(frozen=True, eq=False)
class Climbed:
    """What one training came to.

    Attributes:
        seed: of the training.
        run: where it stands.
        found: mean return over fresh episodes.
        random: the same of a random policy.
        reached: steps in the environment when training first came to the bar; None where it did not, or there is none.
    """

    seed: int
    run: Run
    found: Estimate
    random: Estimate
    reached: int | None

    def to_json(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "run": self.run.id,
            "return": self.found.to_json(),
            "random": self.random.to_json(),
            "reached": self.reached,
        }


def bar_of(study: Ladder, done: Mapping[Recipe, Run], environment: str) -> float | None:
    """Return the mean return that is asked for: the registry's threshold, else what is known, else None."""
    threshold = done[study.climb(environment, study.algorithms[0], 0)].result["threshold"]
    known = KNOWN.get(environment)
    return threshold if threshold is not None else known[0].value if known else None


def climbed(study: Ladder, done: Mapping[Recipe, Run], environment: str, algorithm: str) -> list[Climbed]:
    """Return what each seed came to."""
    bar, rows = bar_of(study, done, environment), []
    for recipe in study.climbs(environment, algorithm):
        run = done[recipe]
        found, random = (Estimate.from_json(run.result[key]) for key in ("return", "random"))
        episodes = run.tensors("episodes.safetensors")
        reached = None if bar is None else first_at(episodes["return"], episodes["ended"], bar)
        rows.append(Climbed(recipe.seed, run, found, random, reached))
    return rows


def first_at(returns: np.ndarray, ended: np.ndarray, bar: float) -> int | None:
    """Return the steps taken when the mean of `RECENT` training episodes in a row first came to a bar, or None.

    Args:
        returns: [N] of the episodes in the order in which they ended.
        ended: [N] steps that had been taken then.
        bar: the mean return that is asked for.
    """
    if len(returns) < RECENT:
        return None
    recent = np.convolve(returns, np.ones(RECENT) / RECENT, "valid")
    there = np.flatnonzero(recent >= bar - 1e-9)
    return int(ended[there[0] + RECENT - 1]) if len(there) else None


def curve(study: Ladder, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return the mean return of the training episodes that ended in each stretch of the training: the mean over seeds,
    with the lowest and the highest seed. A stretch in which some seed ended no episode is left out."""
    edges = np.linspace(0, study.steps, BINS + 1)
    found = []
    for run in runs:
        episodes = run.tensors("episodes.safetensors")
        place = np.clip(np.searchsorted(edges, episodes["ended"], "left") - 1, 0, BINS - 1)
        count = np.bincount(place, minlength=BINS)
        total = np.bincount(place, weights=episodes["return"], minlength=BINS)
        found.append(np.where(count > 0, total / np.maximum(count, 1), np.nan))
    by_seed = np.array(found)
    return [
        {
            "steps": float(edges[b + 1]),
            "return": float(by_seed[:, b].mean()),
            "low": float(by_seed[:, b].min()),
            "high": float(by_seed[:, b].max()),
            "run": runs[0].id,
        }
        for b in np.flatnonzero(np.isfinite(by_seed).all(0))
    ]
