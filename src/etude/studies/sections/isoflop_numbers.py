"""The numbers of a sweep over sizes and budgets: its plan, its fits, and how its prediction came out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.statistics import Estimate, paired
from etude.scaling import readings
from etude.scaling.gathered import size_of
from etude.scaling.intervals import Interval, interval
from etude.train.recipes import Train

if TYPE_CHECKING:
    from etude.studies.isoflop import Isoflop


@dataclass(frozen=True)
class Planned:
    """A training of the sweep as it is planned.

    Attributes:
        budget: FLOPs that it is to spend.
        train: the training.
        size: its parameters, as the study counts them.
        epochs: passes over the text.
        seconds: how long it will take on this machine, by a few steps of a training of its size.
    """

    budget: float
    train: Train
    size: int
    epochs: float
    seconds: float


def planned(study: Isoflop, done: Mapping[Recipe, Run]) -> list[Planned]:
    """Return the sweep as planned, budget by budget."""
    tokens = done[study.data].result
    there, vocabulary = int(tokens["splits"]["train"]["tokens"]), int(tokens["vocabulary"])
    rates = {train.model: done[c].result["timing"]["step_seconds"] for train, c in study.calibrations.items()}
    return [
        Planned(
            budget,
            train,
            size_of(train.model, vocabulary, study.counted),
            train.tokens / there,
            train.steps * rates[train.model],
        )
        for budget in sorted(study.budgets)
        for train in study.at(budget)
    ]


@dataclass(frozen=True)
class Tested:
    """A training at the budget that was held out.

    Attributes:
        run: of the training.
        size: its parameters, as the study counts them.
        tokens: that it was trained on.
        expected: the loss that the law predicts of a new training of this size on so many tokens, with the interval of
            the prediction; None without a law.
        loss: what it came to.
    """

    run: Run
    size: int
    tokens: int
    expected: Interval | None
    loss: Estimate

    @property
    def error(self) -> float | None:
        """Expected over measured loss, less 1."""
        return None if self.expected is None else self.expected.estimate / self.loss.mean - 1

    @property
    def inside(self) -> bool | None:
        """Whether the measured loss lies within the interval of the prediction; None where there is none."""
        told = self.expected
        return None if told is None or np.isnan(told.low) else told.holds(self.loss.mean)


def tested(study: Isoflop, done: Mapping[Recipe, Run]) -> dict[str, Tested]:
    """Return what was trained at the budget that was held out, by name."""
    if study.until != "tested":
        return {}
    vocabulary = int(done[study.data].result["vocabulary"])
    found = {}
    for name, train in study.tests(done).items():
        run, size = done[train], size_of(train.model, vocabulary, study.counted)
        tokens = int(run.result["tokens"])
        loss = Estimate.from_json(run.result["validation"]["loss"])
        found[name] = Tested(run, size, tokens, _expected(study, done[study.fit], size, tokens), loss)
    return found


def _expected(study: Isoflop, fit: Run, size: int, tokens: int) -> Interval | None:
    """Return the loss that approach 3 predicts of a new training."""
    constants = fit.result["approach_3"]
    if constants is None:
        return None
    E, A, B, alpha, beta = (constants[name]["estimate"] for name in ("E", "A", "B", "alpha", "beta"))
    left = fit.tensors("law.safetensors")["residuals"]
    theta = fit.tensors("draws.safetensors")["approach_3"]
    rows = readings.predicted(theta[np.isfinite(theta).all(1)], left, size, tokens, study.seed)
    return interval(E + A * size**-alpha + B * tokens**-beta, rows)


def oversized_gap(found: Mapping[str, Tested]) -> Estimate | None:
    """Return the loss of the oversized model less that of the predicted one, paired on the same windows."""
    if not {"predicted", "oversized"} <= set(found):
        return None
    ours, theirs = (found[name].run.tensors("validation.safetensors") for name in ("predicted", "oversized"))
    return paired(theirs["loss"], ours["loss"], ours["count"])


def counted(study: Isoflop, done: Mapping[Recipe, Run]) -> Iterator[tuple[str, Run]]:
    """Yield the fits by other ways of counting, each with what it counts."""
    for (size, flops), fit in study.recounted.items():
        yield f"{size.replace('-', ' ')} parameters, FLOPs {flops.replace('-', ' ')}", done[fit]


def numbers(study: Isoflop, done: Mapping[Recipe, Run]) -> dict[str, Any]:
    """Return the study's numbers. Hours are of this machine, and stand under `timing`."""
    sweep = planned(study, done)
    found: dict[str, Any] = {
        "plan": [
            {
                "budget": each.budget,
                "id": each.train.resolve().id,
                "layers": each.train.model.layers,
                "width": each.train.model.width,
                "parameters": each.size,
                "tokens": each.train.tokens,
                "steps": each.train.steps,
                "epochs": each.epochs,
            }
            for each in sweep
        ],
        "timing": {"planned_hours": sum(each.seconds for each in sweep) / 3600},
    }
    if study.until == "planned":
        return found
    taken = sum(done[each.train].result["timing"]["seconds"] for each in sweep)
    fit = done[study.fit].outcome
    losses = [done[each.train].result["validation"]["loss"] for each in sweep]
    tests = tested(study, done)
    gap = oversized_gap(tests)
    return {
        **fit,
        **found,
        "losses": losses,
        "tested": {name: _test(each) for name, each in tests.items()},
        "oversized_gap": None if gap is None else gap.to_json(),
        "counted": {name: _exponents(run) for name, run in counted(study, done)},
        "sensitivity": {name: _exponents(done[each]) for name, each in study.refitted.items()},
        "timing": {**found["timing"], "taken_hours": taken / 3600},
    }


def _exponents(run: Run) -> dict[str, Any]:
    return {name: run.result[name] for name in ("approach_2", "approach_3")}


def _test(each: Tested) -> dict[str, Any]:
    return {
        "id": each.run.id,
        "parameters": each.size,
        "tokens": each.tokens,
        "expected": None if each.expected is None else each.expected.to_json(),
        "loss": each.loss.to_json(),
        "error": each.error,
        "inside": each.inside,
    }
