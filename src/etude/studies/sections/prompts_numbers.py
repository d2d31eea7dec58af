"""The numbers of prompts: the curve over examples, what wording, draw and order change, and what frames do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.items import items_of
from etude.evals.prompting import Prompt
from etude.evals.statistics import Estimate, mean

if TYPE_CHECKING:
    from etude.studies.prompts import Prompts

FACTORS = ("wording", "examples", "order")


@dataclass(frozen=True)
class Spread:
    """What crossed prompts change.

    Attributes:
        scores: [P] of each prompt.
        items: how many.
        sampling: standard error of one prompt's score from its items alone.
        prompts: standard deviation of the scores that prompts would have on all items, estimated: what is left of that
            between the scores when the noise of items is taken off; 0 where nothing is.
        noise: standard deviation between the scores that the noise of items alone would give.
        chance: how likely scores as different as these, or more, would be if no prompt changed anything (F test).
        levels: of each factor, the score of each of its levels, over all others.
        factors: of each factor the standard deviation of what its levels do, estimated in the same way; None where it
            has one level.
    """

    scores: np.ndarray
    items: int
    sampling: float
    prompts: float
    noise: float
    chance: float
    levels: dict[str, dict[str, float]]
    factors: dict[str, float | None]

    def to_json(self) -> dict[str, Any]:
        return {
            "scores": self.scores.tolist(),
            "items": self.items,
            "sampling_error": self.sampling,
            "between_prompts": self.prompts,
            "noise_between_prompts": self.noise,
            "p": self.chance,
            "levels": self.levels,
            "factors": self.factors,
        }


class Answers:
    """Whether each item was right under each prompt.

    Args:
        study: what was asked.
        done: its runs.
    """

    def __init__(self, study: Prompts, done: Mapping[Recipe, Run]) -> None:
        self._study, self._done = study, done
        self._rows: dict[str, dict[int, dict[str, Any]]] = {}

    def run(self, prompt: Prompt) -> Run:
        """Return the evaluation with a prompt."""
        return self._done[self._study.asked(prompt)]

    def right(self, prompts: Sequence[Prompt]) -> np.ndarray:
        """Return the scores [P, N] of prompts on the items that fitted all of them."""
        held = [self._of(prompt) for prompt in prompts]
        common = sorted(set.intersection(*(set(rows) for rows in held)))
        if not common:
            raise UsageError("no item fits the model's context with every prompt: ask with fewer --shots and --crossed")
        metric = self._study.metric if self._study.metric in held[0][common[0]] else "accuracy"
        return np.array([[rows[n][metric] for n in common] for rows in held])

    def _of(self, prompt: Prompt) -> dict[int, dict[str, Any]]:
        run = self.run(prompt)
        if run.id not in self._rows:
            self._rows[run.id] = {row["number"]: row for row in items_of(run)}
        return self._rows[run.id]


def curve(study: Prompts, answers: Answers) -> list[dict[str, Any]]:
    """Return the score of each number of examples, over the draws and on the items that fitted all: with an interval
    over items, the scores of the draws, and the difference to none (or to the fewest), paired by item."""
    every = [prompt for prompts in study.curve.values() for prompt in prompts]
    held, at, found = answers.right(every), 0, list[dict[str, Any]]()
    first: np.ndarray | None = None
    for shots, prompts in study.curve.items():
        mine = held[at : at + len(prompts)]
        at += len(prompts)
        over = mine.mean(axis=0)
        first = over if first is None else first
        found.append(
            {
                "shots": shots,
                "score": mean(over).as_share().to_json(),
                "draws": mine.mean(axis=1).tolist(),
                "change": mean(over - first).to_json() if len(found) else None,
                "runs": [answers.run(prompt).id for prompt in prompts],
            }
        )
    return found


def spread(study: Prompts, answers: Answers) -> Spread:
    """Return what crossed prompts change."""
    keys, held = list(study.grid), answers.right(list(study.grid.values()))
    levels: dict[str, dict[str, float]] = {}
    factors: dict[str, float | None] = {}
    for number, factor in enumerate(FACTORS):
        if factor == "order":  # an order is one of a draw's: what it changes is told within draws
            groups = _groups(keys, (1, 2))
            within = _groups(keys, (1,))
            factors[factor] = _within(held, groups, within) if study.orders > 1 and study.crossed else None
            levels[factor] = {}
            continue
        groups = _groups(keys, (number,))
        levels[factor] = {str(key[0]): float(held[rows].mean()) for key, rows in groups.items()}
        means = np.array([held[rows].mean(axis=0) for rows in groups.values()])
        factors[factor] = deviation(means)[0] if len(groups) > 1 else None
    between, noise = deviation(held)
    chance = _chance(held, noise)
    sampling = float(np.sqrt(held.var(axis=1, ddof=1) / held.shape[1]).mean()) if held.shape[1] > 1 else 0.0
    return Spread(held.mean(axis=1), held.shape[1], sampling, between, noise, chance, levels, factors)


def deviation(held: np.ndarray) -> tuple[float, float]:
    """Return the standard deviation between the true scores of prompts, and what noise alone gives between the measured
    ones, by the method of moments in the two-way layout without replication (Searle et al. 1992, section 4.6): the
    noise is what remains of the answers when each prompt's and each item's mean is taken off, over the items.

    Args:
        held: [P, N] scores of prompts on items.
    """
    prompts, items = held.shape
    if prompts < 2 or items < 2:
        return 0.0, 0.0
    rest = held - held.mean(axis=1, keepdims=True) - held.mean(axis=0, keepdims=True) + held.mean()
    noise = float((rest**2).sum() / ((prompts - 1) * (items - 1)) / items)
    between = float(held.mean(axis=1).var(ddof=1))
    return float(np.sqrt(max(0.0, between - noise))), float(np.sqrt(noise))


def _chance(held: np.ndarray, noise: float) -> float:
    """Return the chance of scores that differ as much or more by the noise of items alone. Prompts that share a wording
    share what items make of it, and are not so many: degrees of freedom are those of Greenhouse and Geisser 1959."""
    prompts, items = held.shape
    if prompts < 2 or items < 2 or not noise:
        return 1.0
    from scipy.special import fdtrc

    shared = np.cov(held)
    centred = shared - shared.mean(axis=0) - shared.mean(axis=1, keepdims=True) + shared.mean()
    free = float(np.trace(centred) ** 2 / (centred**2).sum())  # at most prompts - 1
    return float(fdtrc(free, free * (items - 1), held.mean(axis=1).var(ddof=1) / noise**2))


def _groups(keys: Sequence[tuple[str, int, int]], by: tuple[int, ...]) -> dict[tuple[Any, ...], list[int]]:
    found: dict[tuple[Any, ...], list[int]] = {}
    for row, key in enumerate(keys):
        found.setdefault(tuple(key[place] for place in by), []).append(row)
    return found


def _within(held: np.ndarray, groups: Mapping[tuple[Any, ...], list[int]], within: Mapping[Any, list[int]]) -> float:
    """Return the standard deviation of what orders do within a draw, pooled over draws."""
    found = []
    for draw in within:
        means = np.array([held[rows].mean(axis=0) for key, rows in groups.items() if key[0] == draw[0]])
        found.append(means.mean(axis=1).var(ddof=1) - deviation(means)[1] ** 2)
    return float(np.sqrt(max(0.0, np.mean(found))))


def frames(study: Prompts, answers: Answers) -> list[dict[str, Any]]:
    """Return what each frame changed, paired by item with the plain prompt."""
    found = []
    for name, prompt in study.framed.items():
        plain, own = answers.right([study.plain, prompt])
        found.append(
            {
                "frame": name,
                "score": mean(own).as_share().to_json(),
                "change": mean(own - plain).to_json(),
                "run": answers.run(prompt).id,
            }
        )
    return found


def gain(rows: Sequence[dict[str, Any]]) -> Estimate | None:
    """Return what the most examples add to the fewest, with an interval that holds the choice of the examples as well
    as that of the items: of one draw, which says nothing of others, only the estimate."""
    last = rows[-1]["change"]
    if last is None:
        return None
    of_items, draws = Estimate.from_json(last), np.array(rows[-1]["draws"])
    if len(draws) < 2:
        return Estimate(of_items.mean, of_items.mean, of_items.mean, 1)
    of_draws = mean(draws)
    reach = float(np.hypot(of_items.high - of_items.mean, of_draws.high - of_draws.mean))
    return Estimate(of_items.mean, of_items.mean - reach, of_items.mean + reach, of_items.n)


def numbers(study: Prompts, done: Mapping[Recipe, Run]) -> dict[str, Any]:
    """Return the study's numbers."""
    from etude.studies.sections.findings import plain
    from etude.studies.sections.prompts_page import findings

    answers = Answers(study, done)
    return {
        "chance": answers.run(study.plain).result["scores"]["accuracy"]["chance"],
        "curve": curve(study, answers),
        "spread": spread(study, answers).to_json(),
        "frames": frames(study, answers),
        "findings": [{"text": plain(one.text), "strength": one.strength} for one in findings(study, answers)],
    }
