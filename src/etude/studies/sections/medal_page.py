"""The page of MEDAL-ADR and its ablations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.statistics import Estimate
from etude.report.blocks import Block, Findings, Report, Section, Table, Value, text
from etude.studies.sections.cards import cards, measured
from etude.studies.sections.medal_numbers import agents, boundaries, findings, misled, probes, without
from etude.studies.sections.raised_blocks import (
    episode_chart,
    film,
    growth_chart,
    parts_chart,
    parts_table,
    phase_table,
    recall_table,
    value,
)

if TYPE_CHECKING:
    from etude.studies.medal import Medal


def page(study: Medal, done: Mapping[Recipe, Run]) -> Report:
    """Return the whole page."""
    behind = {done[recipe].id: done[recipe] for recipe in study.plan(done)}
    social = (_social(study, done),) if study.neurons else ()
    return Report(
        title="Learning from others: MEDAL-ADR",
        question="Which ingredients make an agent follow an expert, and remember what it saw when the expert has gone?",
        abstract=(Findings(tuple(findings(study, done))),),
        sections=(
            *(_of(study, goals, done) for goals in study.goals),
            _probing(study, done),
            _misleading(study, done),
            *social,
            _method(study),
        ),
        runs=cards(behind.values()),
    )


def _of(study: Medal, goals: int, done: Mapping[Recipe, Run]) -> Section:
    every = agents(study, goals, done)
    whole = every[0]
    return Section(
        f"{goals} goals",
        (
            parts_table(every),
            recall_table(every),
            episode_chart(whole),
            film(
                whole.measured[0],
                "The whole agent beside its expert, which leaves half-way: the first of the worlds in which its first"
                " training was measured, not a chosen one.",
            ),
            parts_chart(whole),
            growth_chart(every, "full", "score with the expert there", "How each agent came to do beside its expert."),
            growth_chart(
                every,
                "recalled",
                "score of the second half, the expert gone",
                "What each came to do after it has gone.",
            ),
            growth_chart(every, "solo", "score alone", "What each came to do with no expert at all."),
            _differences(study, goals, done),
            phase_table(every),
        ),
        intro="Each agent but the first lacks one thing that the first has: “without memory” sees only the present"
        " step, “without expert dropout” always has its expert while it is raised, “without attention loss” need not"
        " say where it is, “without randomisation” stays in empty worlds with an expert that never errs, and “plain"
        " randomisation” has the widest ranges from the start.",
    )


def _differences(study: Medal, goals: int, done: Mapping[Recipe, Run]) -> Table:
    rows = [
        (
            row["agent"],
            *(value(Estimate.from_json(row[key]).scaled(-1), tuple(row["runs"])) for key in KEYS),
        )
        for row in without(study, goals, done)
    ]
    return Table(
        ("agent", *KEYS.values()),
        tuple(rows),
        caption="What each has more than the whole agent, below 0 less, with Welch's 95% intervals over trainings.",
    )


KEYS = {"full": "score with the expert there", "kept": "kept by memory", "beyond_solo": "beyond solo play"}


def _probing(study: Medal, done: Mapping[Recipe, Run]) -> Section:
    rows = [row for goals in study.goals for row in probes(study, goals, done)]

    def cell(row: dict[str, Any], key: str, digits: int = 1) -> Value:
        return value(Estimate.from_json(row[key]), tuple(row["runs"]), digits)

    def table(keys: dict[str, str], caption: str) -> Table:
        return Table(
            ("raised with", "agent", "probe", *keys.values()),
            tuple(
                (
                    f"{row['goals']} goals",
                    row["agent"],
                    row["probe"],
                    *(cell(row, key, 2 if key == "transmission" else 1) for key in keys),
                )
                for row in rows
            ),
            caption=caption,
        )

    said = f"{study.probes} worlds of each type, {study.episodes} episodes of each; means over trainings with 95%"
    return Section(
        "Probes: harder worlds and experts, and other numbers of goals",
        (
            table(
                {"full": "expert there", "half": "there for half", "solo": "alone"},
                f"Scores of an episode. {said} intervals over trainings.",
            ),
            table(
                {"expert": "the expert itself", "transmission": "transmission", "kept": "kept by memory"},
                f"Cultural transmission, whose parts are above, and what memory keeps. {said} intervals over"
                " trainings.",
            ),
            Table(
                ("raised with", "what is randomised", "farthest", "reached, by training"),
                tuple(
                    (
                        f"{row['goals']} goals",
                        row["field"],
                        Value(row["last"], run=tuple(row["runs"]), digits=2),
                        ", ".join(f"{each:.2f}" for each in row["reached"]),
                    )
                    for goals in study.goals
                    for row in boundaries(study, goals, done)
                ),
                caption="Where automatic domain randomisation had moved its boundaries to when each training ended.",
            ),
        ),
        intro="Obstacles, slow ground, waits and errors are more than any agent was raised with: randomisation reaches"
        f" {_reach()} at the farthest. The agent without it has met none.",
    )


def _reach() -> str:
    from etude.studies.medal import RANGES

    return ", ".join(f"{each.last:g} ({each.field})" for each in RANGES)


def _trials(study: Medal) -> float:
    """Return the most steps of trials for a step of training: three ways of playing, each time that one is due."""
    from etude.studies.medal import WHOLE

    plan = study.agent(study.goals[0], WHOLE, 0).randomise
    return 3 * plan.worlds / (plan.every * study.worlds) if plan else 0.0


def _misleading(study: Medal, done: Mapping[Recipe, Run]) -> Section:
    rows = [row for goals in study.goals for row in misled(study, goals, done)]
    keys = {
        "expert": "the expert itself", "full": "beside it", "solo": "alone", "lost": "lost by it",
        "near": "cells between",
    }  # fmt: skip
    return Section(
        "Misled: an expert that goes the wrong way round",
        (
            Table(
                ("agent", *keys.values()),
                tuple(
                    (
                        f"{row['agent']}, {row['goals']} goals",
                        *(value(Estimate.from_json(row[key]), tuple(row["runs"])) for key in keys),
                    )
                    for row in rows
                ),
                caption="Scores of an episode beside an expert that walks the hidden order backwards, its own score,"
                " and the mean distance to it. The agent feels what each goal that it enters counts. A wrong goal"
                " leaves the one that is due as it was, so going backwards enters a right one of every two with 3"
                " goals, and of every three with 4.",
            ),
        ),
        intro="An agent that is good at its task with an expert may be good at two things: entering goals in the right"
        " order, or following. Beside an expert whose order is wrong they come apart (goal misgeneralisation, Shah et"
        " al. 2022, arXiv 2210.01790, section 3.1).",
    )


def _social(study: Medal, done: Mapping[Recipe, Run]) -> Section:
    held = [(goals, name, done[study.social(goals, name)]) for goals in study.goals for name in study.with_neurons]
    tells = []
    for goals, name, run in held:
        found = run.result
        flickers, leaves = found["flickers"], found["leaves_at_half_time"]
        tells.append((
            f"{name}, {goals} goals", Value(found["unit"], run=run.id, digits=0),
            measured(flickers["best"]["accuracy"], run),
            measured(flickers["of_other_worlds"]["accuracy"], run),
            measured(found["untrained"]["best"]["accuracy"], run), measured(leaves["clock"], run),
        ))  # fmt: skip
    columns = ("agent", "best unit", "its accuracy", "of other worlds", "untrained", "a clock, half-way")
    blocks: list[Block] = [
        Table(
            columns,
            tuple(tells),
            caption="How often the best single unit of the memory tells whether the expert is there, when it comes and"
            " goes at random; the same for the presence in other worlds, and for an agent before any update. With an"
            " expert that leaves half-way a clock alone tells it, which is why that cannot show a social neuron."
            " Thresholds are chosen in half of the worlds and judged in the others; 95% intervals over worlds.",
        ),
        _ablated(held),
    ]
    return Section(
        "Social neurons",
        tuple(blocks),
        intro="The first training of each of three agents. A unit is fixed at its mean over steps, one at a time, and"
        " the agent plays on with what is left.",
    )


def _ablated(held: list[tuple[int, str, Run]]) -> Table:
    rows = []
    for goals, name, run in held:
        for key, said in (("full", "expert there"), ("recalled", "after it has gone")):
            found = run.result["ablation"][key]
            more = found["more_than_others"]
            rows.append((
                f"{name}, {goals} goals", said,
                measured(found["score"], run, digits=1), measured(found["lost"], run, digits=1),
                measured(more, run, digits=1) if more else None,
                f"{found['rank']} of {run.result['units']}",
            ))  # fmt: skip
    return Table(
        ("agent", "score", "whole", "lost without the unit", "more than without another", "rank"),
        tuple(rows),
        caption="What is lost without the unit that tells presence best, against the mean over the other units, and its"
        " rank among all by what is lost. 95% intervals over worlds; one training each.",
    )


def _method(study: Medal) -> Section:
    updates = " and ".join(
        f"{n * study.worlds * study.steps / 1e6:.1f} million with {g} goals"
        for g, n in zip(study.goals, study.updates, strict=True)
    )
    return Section(
        "How it was done",
        (
            text(
                f"GoalCycle on a grid of 5 by 5, in episodes of {study.steps} steps: entering the next goal of a cyclic"
                " order that nobody is told counts 1, another -1. An agent sees where everything is relative to itself,"
                " and what its last step counted, so that alone it can try the order out. It learns by proximal policy"
                f" optimisation from scratch, without any human data, for {updates} environment steps. In training an"
                " episode begins with the agent and its expert in one cell, and wherever it is measured, apart."
                " Automatic randomisation plays trials at its boundaries besides, which nobody learns from: at most"
                f" {_trials(study):.2f} of the steps of training."
            ),
            text(
                "Training is self-paced. A wrong goal costs a fifth at first and the full 1 once the agent earns half"
                " of the expert's score, and this is told apart for steps with the expert and for steps without: with"
                " one price for both, agents that followed well learned to stand still when their expert had left, and"
                " were not seen to remember. The expert is absent at times from when the agent earns 0.6 of its score"
                " beside it:"
                " 3 episodes in 10 without a second half of it, 4 in which it comes and goes."
            ),
            text(
                "Intervals in the tables of agents are over trainings: Student's for means, Welch's for differences."
                " With three trainings they are wide. Findings are not corrected for how many there are."
            ),
        ),
    )
