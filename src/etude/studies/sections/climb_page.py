"""The numbers and the page of the ladder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.report.blocks import Findings, Report, Section, Table, Value, lasted, text
from etude.report.charts import Axis, lines
from etude.studies.sections.cards import cards, measured
from etude.studies.sections.climb_findings import findings
from etude.studies.sections.climb_numbers import KNOWN, RECENT, WITHOUT_CHANCE, bar_of, climbed, curve
from etude.studies.sections.findings import plain

if TYPE_CHECKING:
    from etude.studies.ladder import Ladder


def numbers(study: Ladder, done: Mapping[Recipe, Run]) -> dict[str, Any]:
    """Return every seed's returns, the bars, the curves and the findings."""
    return {
        "bars": {environment: bar_of(study, done, environment) for environment in study.environments},
        "climbed": {
            environment: {
                name: [row.to_json() for row in climbed(study, done, environment, name)] for name in study.algorithms
            }
            for environment in study.environments
        },
        "curves": {
            environment: {name: _curve(study, done, environment, name) for name in study.algorithms}
            for environment in study.environments
        },
        "findings": [{"text": plain(f.text), "strength": f.strength} for f in findings(study, done)],
    }


def page(study: Ladder, done: Mapping[Recipe, Run]) -> Report:
    """Return the whole page."""
    behind = [done[recipe] for recipe in study.plan(done)]
    return Report(
        title="The ladder of reinforcement learning",
        question="How far does each step of the ladder carry?",
        abstract=(Findings(tuple(findings(study, done))),),
        sections=(
            _rungs(study),
            *(_environment(study, done, environment) for environment in study.environments),
            _method(study),
        ),
        runs=cards(behind),
    )


def _rungs(study: Ladder) -> Section:
    members = sorted((study.member(name) for name in study.algorithms), key=lambda member: member.rung)
    rows = tuple((member.label, member.adds, member.source) for member in members)
    return Section("What each adds", (Table(("algorithm", "what it does that is new", "where"), rows),))


def _curve(study: Ladder, done: Mapping[Recipe, Run], environment: str, name: str) -> list[dict[str, Any]]:
    return curve(study, [done[recipe] for recipe in study.climbs(environment, name)])


def _environment(study: Ladder, done: Mapping[Recipe, Run], environment: str) -> Section:
    rows = [
        {"algorithm": study.member(name).label, **row}
        for name in study.algorithms
        for row in _curve(study, done, environment, name)
    ]
    table = _table(study, done, environment)
    if not rows:  # so short a training that in no stretch of it every seed ended an episode
        return Section(environment, (table,))
    chart = lines(
        rows,
        Axis("steps", "steps in the environment"),
        Axis("return", "return of a training episode (sum of rewards)"),
        colour="algorithm",
        colour_title="algorithm",
        low="low",
        high="high",
        points=False,
        run="run",
        rules=KNOWN.get(environment, ()),
        caption=f"While it learns, {environment}: the mean of the episodes that ended in each stretch, with the chance"
        f" that exploring takes. Lines are means over {study.seeds} seeds, bands reach from the lowest seed to the"
        " highest; the run named is the first seed's.",
    )
    return Section(environment, (chart, table))


def _table(study: Ladder, done: Mapping[Recipe, Run], environment: str) -> Table:
    bar = bar_of(study, done, environment)
    cells = [
        (
            study.member(name).label,
            row.seed,
            measured(row.found.to_json(), row.run, digits=2),
            measured(row.random.to_json(), row.run, digits=2),
            None if row.reached is None else Value(row.reached, run=row.run.id),
            Value(row.run.result["training_episodes"], run=row.run.id),
            lasted(row.run.result["timing"]["seconds"]),
        )
        for name in study.algorithms
        for row in climbed(study, done, environment, name)
    ]
    asked = "" if bar is None else f" The bar is {bar:g}{_whose(study, done, environment)}."
    if environment in WITHOUT_CHANCE:
        asked += (
            " Nothing is left to chance here: what was learned plays one episode many times over, and its interval has"
            " no width."
        )
    return Table(
        ("algorithm", "seed", "mean return", "random policy", "steps to the bar", "episodes played", "time"),
        tuple(cells),
        f"What was learned, on {study.episodes} fresh episodes, by the action that is thought best; 95% intervals over"
        f" episodes.{asked} Steps to the bar: taken when {RECENT} training episodes in a row first came to it on"
        " average. The time is on one thread, the evaluation included.",
        highest=("mean return",),
    )


def _whose(study: Ladder, done: Mapping[Recipe, Run], environment: str) -> str:
    """Say where a bar comes from."""
    registered = done[study.climb(environment, study.algorithms[0], 0)].result["threshold"] is not None
    return ", the threshold in Gymnasium's registry" if registered else ", which is the most there is"


def _method(study: Ladder) -> Section:
    words = text(
        f"Each training takes {study.steps:,} steps in the environment. Policies, critics and action values are small"
        " networks of their own with two hidden layers, trained by Adam at a rate that falls to 0; the other settings"
        " stand in each run's recipe below. They were chosen on CartPole-v1 with seeds 0 to 2, and are the same"
        " everywhere. What is evaluated is what stands after the last step, not the best on the way. A difference"
        f" between algorithms is one between these settings, with {study.seeds} seeds: others may turn it round.",
    )
    return Section("How it was done", (words,))
