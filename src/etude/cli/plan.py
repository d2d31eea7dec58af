"""`etude plan`: what a recipe or study would do, without doing any of it."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import App, Parameter

from etude.cli.console import AsJson, RunsFolder, say, say_json, say_table, short
from etude.cli.describe import is_study
from etude.cli.spelling import spell
from etude.cli.subject import carry_out
from etude.core.done import Done
from etude.core.errors import DamagedError
from etude.core.lab import Lab
from etude.core.machine import machine
from etude.core.progress import clock
from etude.core.recipe import Estimate, Recipe
from etude.core.run import Run
from etude.core.shelf import Shelf

MOST_CHARACTERS = 80
FAR = 30.0
"""Factor in FLOPs beyond which one run says nothing of another's time: what is not FLOPs weighs too differently."""

command = App("plan", help_flags=[], version_flags=[])


@command.default
def _plan(*words: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> None:
    carry_out("plan", words, plan)


@dataclass(frozen=True)
class Step:
    """One run that a plan asks for.

    Attributes:
        recipe: what is done.
        run: its run, where it is done.
        state: `done`, `begun` or `to do`.
        seconds: how long it took, or will take as far as runs on this machine tell; None where they do not.
    """

    recipe: Recipe
    run: Run | None
    state: str
    seconds: float | None

    @property
    def cost(self) -> Estimate:
        return self.recipe.estimate()

    def to_json(self) -> dict[str, Any]:
        cost = self.cost
        return {
            "id": self.recipe.id,
            "kind": self.recipe.kind,
            "state": self.state,
            "parameters": cost.parameters or None,
            "flops": cost.flops or None,
            "disk_bytes": cost.disk_bytes or None,
            "seconds": None if self.seconds is None else round(self.seconds, 3),
        }


def plan(
    recipe: Recipe,
    *,
    preset: Annotated[str | None, Parameter(name="--preset", help="a study's named choice of its fields.")] = None,
    runs: RunsFolder = None,
    json: AsJson = False,
) -> None:
    """Show what a recipe or study would do: its runs, what is done already, parameters, FLOPs and time.

    Time is what the same kind of work took on this machine, scaled by FLOPs where they are known; it is unknown until a
    run of like size is done.
    """
    lab = Lab(runs)
    goal = recipe.resolve()
    steps = steps_of(lab, goal)
    left = [step for step in steps if step.run is None]
    open_ended = is_study(type(goal)) and lab.lookup(goal) is None and len(left) > 1
    if json:
        answer = {"id": goal.id, "steps": [step.to_json() for step in steps], "to_do": len(left)}
        say_json({**answer, "done": len(steps) - len(left), "may_ask_for_more": open_ended})
        return
    say_table(
        ["id", "state", "parameters", "FLOPs", "time", "fields"],
        [[s.recipe.id, s.state, short(s.cost.parameters), short(s.cost.flops), _time(s), _fields(s)] for s in steps],
        right=("parameters", "FLOPs", "time"),
    )
    say()
    say(_sum(steps, left))
    if open_ended:
        say("A study may ask for more when it has seen these.")


def steps_of(lab: Lab, goal: Recipe) -> list[Step]:
    """Return the runs that a resolved recipe asks for as far as is known, each before what is made from it."""
    steps: dict[str, Step] = {}
    rates = _Rates(lab)

    def visit(recipe: Recipe) -> None:
        if recipe.id in steps:
            return
        run, done = lab.lookup(recipe), Done()
        while True:
            before = len(done)
            for need in (need.resolve() for need in recipe.plan(done)):
                found = lab.lookup(need)
                if run is None or found is not None:  # what a done run was made from may be gone, and is not missed
                    visit(need)
                if found is not None:
                    done.add(need, found)
            if len(done) == before:
                break
        begun = (lab.root / f"{recipe.id}.partial").exists()
        seconds = rates.seconds(recipe) if run is None else _timing(run).get("seconds")
        steps[recipe.id] = Step(recipe, run, "done" if run else "begun" if begun else "to do", seconds)

    visit(goal)
    return list(steps.values())


class _Rates:
    """How long each kind of work took on this machine, from the runs that are there."""

    def __init__(self, lab: Lab) -> None:
        self._runs: dict[str, list[Run]] = {}
        for run in Shelf(lab.root):
            self._runs.setdefault(run.id.rpartition("-")[0], []).append(run)
        self._known: dict[str, list[tuple[float, float]]] = {}

    def seconds(self, recipe: Recipe) -> float | None:
        """Return about how long a recipe will take, or None where no run tells: at the rate of the run nearest to it in
        FLOPs, or what its kind usually takes where FLOPs are unknown."""
        if recipe.kind not in self._known:
            self._known[recipe.kind] = list(_measured(self._runs.get(recipe.kind, [])))
        measured, flops = self._known[recipe.kind], recipe.estimate().flops
        if not flops:
            return statistics.median(seconds for _, seconds in measured) if measured else None
        ratios = [(abs(math.log(flops / other)), seconds * flops / other) for other, seconds in measured if other]
        distance, seconds = min(ratios, default=(math.inf, 0.0))
        return seconds if distance < math.log(FAR) else None


def _measured(runs: list[Run]) -> Iterator[tuple[float, float]]:
    """Yield the FLOPs (0 where unknown) and seconds of the runs that this machine made."""
    for run in runs:
        try:
            if run.provenance.get("machine") == machine() and _timing(run).get("seconds"):
                yield float(run.result.get("flops") or 0.0), float(_timing(run)["seconds"])
        except DamagedError:
            continue


def _timing(run: Run) -> dict[str, Any]:
    try:
        return run.result.get("timing", {})
    except DamagedError:
        return {}


def _time(step: Step) -> str:
    if step.seconds is None:
        return "unknown"
    return clock(step.seconds) if step.run else f"about {clock(step.seconds)}"


def _fields(step: Step) -> str:
    """Return in what a recipe differs from the defaults. The recipes inside have lines of their own."""
    text = re.sub(r"\b([0-9a-f]{8})[0-9a-f]{56}\b", r"\1…", " ".join(spell(step.recipe, inputs=False)))
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"


def _sum(steps: list[Step], left: list[Step]) -> str:
    """Return what a plan comes to, in one line."""
    if not left:
        return f"{len(steps)} done, nothing to do"
    timed = [step.seconds for step in left if step.seconds is not None]
    unknown = len(left) - len(timed)
    parts = [f"{len(steps) - len(left)} done, {len(left)} to do"]
    if timed:
        parts.append(f"about {clock(sum(timed))}, one after the other")
    if unknown:
        parts.append(f"{unknown} of unknown time" if timed else "time unknown until one such run is done here")
    return "; ".join(parts)
