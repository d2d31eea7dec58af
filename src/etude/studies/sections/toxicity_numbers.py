"""The numbers of toxicity against scale: each model in each condition, what size and condition change, and the judge's
validity card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.items import items_of
from etude.evals.statistics import Estimate, mean
from etude.evals.validity import THRESHOLD
from etude.studies.sections.family_numbers import slopes

if TYPE_CHECKING:
    from etude.studies.toxicity import Toxicity

MEASURES = {
    "toxicity": "mean toxicity",
    "expected_maximum": "greatest of several",
    "any_toxic": "one is toxic",
    "civil": "civil reply likelier",
    "alone": "without the turn",
    "margin": "civil over insulting (nats a byte)",
}
"""What is measured of a model in a condition, as the page calls it."""


@dataclass(frozen=True)
class Member:
    """A model in a condition.

    Attributes:
        condition: how it is asked.
        parameters: of the model.
        written: the run of its continuations.
        replies: the run of the paired replies.
        model: its own run.
    """

    condition: str
    parameters: int
    written: Run
    replies: Run
    model: Run

    @cached_property
    def scores(self) -> dict[str, np.ndarray]:
        """The judge's scores: of continuations [N, k], of prompts [N] and their bins [N]."""
        return self.written.tensors("scores.safetensors")

    @cached_property
    def values(self) -> dict[str, np.ndarray]:
        """Each of `MEASURES` by prompt, or by pair of replies."""
        scores, pairs = self.scores["score"], self.pairs
        over, alone = (_over(pairs, name) for name in ("log_probabilities", "bare"))
        return {
            "toxicity": np.asarray(scores.mean(1)),
            "expected_maximum": np.asarray(scores.max(1)),
            "any_toxic": np.any(scores >= THRESHOLD, axis=1).astype(np.float64),
            "civil": (over > 0).astype(np.float64),
            "alone": (alone > 0).astype(np.float64),
            "margin": over,
        }

    @cached_property
    def pairs(self) -> list[dict[str, Any]]:
        """What was said to each pair of replies, with how many bytes each reply has."""
        from etude.evals.paired_replies import choices

        rows = items_of(self.replies)
        return [row | {"bytes": [len(text.encode()) for text in choices()[row["number"] - 1]]} for row in rows]

    def run_of(self, measure: str) -> Run:
        """Return the run that a measure comes from."""
        return self.replies if measure in ("civil", "alone", "margin") else self.written

    def to_json(self) -> dict[str, Any]:
        result = self.written.result
        return {
            "condition": self.condition,
            "model": self.model.id,
            "parameters": self.parameters,
            **{name: _told(name, mean(values)) for name, values in self.values.items()},
            "any_toxic": result["any_toxic"],
            "accuracy": self.replies.result["scores"]["accuracy"],
            "bins": result["bins"],
            "empty": result["empty"],
            "continuations": self.written.id,
            "replies": self.replies.id,
        }


def _over(pairs: list[dict[str, Any]], name: str) -> np.ndarray:
    """Return by how much the civil reply of each pair is likelier than the other, in nats a byte [N]."""
    by_byte = np.array([row[name] for row in pairs]) / np.array([row["bytes"] for row in pairs])
    right = np.array([row["right"][0] for row in pairs])
    at = np.arange(len(pairs))
    return by_byte[at, right] - by_byte[at, 1 - right]


def _told(measure: str, estimate: Estimate) -> dict[str, Any]:
    return (estimate if measure == "margin" else estimate.as_share()).to_json()


def members(study: Toxicity, done: Mapping[Recipe, Run]) -> list[Member]:
    """Return each model in each condition, smallest first within one."""
    found = [
        Member(c, int(done[m].result["parameters"]), done[study.written(c, m)], done[study.replies(c, m)], done[m])
        for c, m in study.members
    ]
    order = list(dict.fromkeys(one.condition for one in found))
    return sorted(found, key=lambda one: (order.index(one.condition), one.parameters))


@dataclass(frozen=True)
class Change:
    """What size, or a condition, changes in a measure.

    Attributes:
        measure: a key of `MEASURES`.
        condition: that it is seen in.
        against: the condition that it is compared with; empty for a slope.
        estimate: a doubling's worth, or the difference, paired by prompt or by pair of replies.
        runs: that it comes from.
    """

    measure: str
    condition: str
    against: str
    estimate: Estimate
    runs: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        names = {name: getattr(self, name) for name in ("measure", "condition", "against")}
        return {**names, **self.estimate.to_json(), "runs": list(self.runs)}


def per_doubling(found: list[Member]) -> list[Change]:
    """Return the slope of each measure over the logarithm of parameters to base 2, in each condition that has two sizes
    or more. Every model is given the same prompts, so that slopes are made prompt by prompt."""
    changes = []
    for condition in dict.fromkeys(one.condition for one in found):
        mine = [one for one in found if one.condition == condition]
        sizes = np.array([one.parameters for one in mine], np.float64)
        if len(set(sizes)) < 2:
            continue
        weights = slopes(sizes)
        for measure in MEASURES:
            values = np.array([one.values[measure] for one in mine])
            runs = tuple(one.run_of(measure).id for one in mine)
            changes.append(Change(measure, condition, "", mean(weights @ values), runs))
    return changes


def against_vanilla(found: list[Member]) -> list[Change]:
    """Return what each other condition changes, over models of the same number of parameters in both."""
    changes, base = [], found[0].condition
    vanilla = {one.parameters: one for one in found if one.condition == base}
    for condition in dict.fromkeys(one.condition for one in found if one.condition != base):
        both = [
            (one, vanilla[one.parameters]) for one in found if one.condition == condition and one.parameters in vanilla
        ]
        for measure in (name for name in MEASURES if both and name != "alone"):  # no condition stands before that
            apart = np.mean([one.values[measure] - other.values[measure] for one, other in both], axis=0)
            runs = tuple(part.run_of(measure).id for pair in both for part in pair)
            changes.append(Change(measure, condition, base, mean(apart), runs))
    return changes


def by_turn(found: list[Member]) -> list[Change]:
    """Return what the turn that is answered changes in the share of pairs whose civil reply is likelier, over the
    models of a condition: what is left once the words of the replies by themselves are taken out."""
    changes = []
    for condition in dict.fromkeys(one.condition for one in found):
        mine = [one for one in found if one.condition == condition]
        apart = np.mean([one.values["civil"] - one.values["alone"] for one in mine], axis=0)
        changes.append(Change("by_turn", condition, "", mean(apart), tuple(one.replies.id for one in mine)))
    return changes


def by_prompt(found: list[Member]) -> list[Change]:
    """Return the slope of continuations' toxicity over that of what they go on from, over the models of a condition."""
    changes = []
    for condition in dict.fromkeys(one.condition for one in found):
        mine = [one for one in found if one.condition == condition]
        x, y = mine[0].scores["prompt"], np.mean([one.values["toxicity"] for one in mine], axis=0)
        if len(x) > 2 and x.std() > 0:
            runs = tuple(one.written.id for one in mine)
            changes.append(Change("by_prompt", condition, "", _slope(x, y), runs))
    return changes


def _slope(x: np.ndarray, y: np.ndarray) -> Estimate:
    """Return the least-squares slope, with an interval that lets the spread vary along x (White 1980, with MacKinnon
    and White's HC3)."""
    from scipy.special import stdtrit

    n, apart = len(x), x - x.mean()
    spread = float((apart**2).sum())
    slope = float((apart * y).sum() / spread)
    left = y - y.mean() - slope * apart
    lever = np.minimum(1 / n + apart**2 / spread, 0.99)
    error = float(np.sqrt((apart**2 * (left / (1 - lever)) ** 2).sum())) / spread
    reach = float(stdtrit(n - 2, 0.975)) * error
    return Estimate(slope, slope - reach, slope + reach, n)


def numbers(study: Toxicity, done: Mapping[Recipe, Run]) -> dict[str, Any]:
    """Return the study's numbers. No text is among them."""
    from etude.studies.sections.findings import plain
    from etude.studies.sections.toxicity_findings import findings

    found = told(study, done)
    said = [{"text": plain(f.text), "strength": f.strength} for f in findings(found)]
    return {
        "members": [one.to_json() for one in found.members],
        "really": found.members[0].written.result["really"],
        "per_doubling": [change.to_json() for change in found.slopes],
        "against_vanilla": [change.to_json() for change in found.contrasts],
        "by_prompt": [change.to_json() for change in found.by_prompt],
        "by_turn": [change.to_json() for change in found.by_turn],
        "judge": {"run": found.judge.id, **found.judge.outcome},
        "findings": said,
    }


@dataclass(frozen=True)
class Told:
    """All that findings and page are made of."""

    members: list[Member]
    slopes: list[Change]
    contrasts: list[Change]
    by_prompt: list[Change]
    by_turn: list[Change]
    judge: Run


def told(study: Toxicity, done: Mapping[Recipe, Run]) -> Told:
    """Return the numbers as objects."""
    found = members(study, done)
    return Told(found, per_doubling(found), against_vanilla(found), by_prompt(found), by_turn(found), done[study.judge])
