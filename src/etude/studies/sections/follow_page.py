"""The numbers and the page of the study of following."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.statistics import mean
from etude.report.blocks import Finding, Findings, Report, Section, Table, text
from etude.studies.sections.cards import cards
from etude.studies.sections.findings import plain
from etude.studies.sections.raised_blocks import (
    episode_chart,
    film,
    growth_chart,
    parts_table,
    phase_table,
    recall_table,
    value,
)
from etude.studies.sections.raised_numbers import Raised, differs

if TYPE_CHECKING:
    from etude.studies.follow import Follow

NAMES = {True: "with attention loss", False: "without attention loss"}


def groups(study: Follow, done: Mapping[Recipe, Run]) -> tuple[Raised, Raised]:
    """Return the agents with the attention loss and without it."""
    seeds = range(study.seeds)

    def raised(attends: bool) -> Raised:
        return Raised(
            NAMES[attends],
            study.goals,
            tuple(done[study.agent(attends, n)] for n in seeds),
            tuple(done[study.transmission(attends, n)] for n in seeds),
        )

    return raised(True), raised(False)


def numbers(study: Follow, done: Mapping[Recipe, Run]) -> dict[str, Any]:
    """Return the scores of both, what the loss changes, the probes and the findings."""
    attending, plain_ones = groups(study, done)
    return {
        "agents": [attending.to_json(), plain_ones.to_json()],
        "difference": differs(attending.by_seed("full"), plain_ones.by_seed("full")).to_json(),
        "probes": _probes(study, done),
        "findings": [{"text": plain(f.text), "strength": f.strength} for f in findings(study, done)],
    }


def findings(study: Follow, done: Mapping[Recipe, Run]) -> list[Finding]:
    """Return what was found, no firmer than the trainings agree."""
    attending, plain_ones = groups(study, done)
    gained = differs(attending.by_seed("full"), plain_ones.by_seed("full"))
    runs = (*attending.runs, *plain_ones.runs)
    direction = "more" if gained.mean >= 0 else "less"
    compared = text(
        f"After {study.updates * study.worlds * study.steps / 1e6:.1f} million environment steps an agent with the"
        " attention loss scores ",
        value(attending.over_seeds("full"), attending.runs),
        " beside its expert, whose own score is ",
        value(attending.over_seeds("expert"), attending.runs),
        ", and one without it ",
        value(plain_ones.over_seeds("full"), plain_ones.runs),
        f": {direction} by ",
        value(gained if gained.mean >= 0 else gained.scaled(-1), runs),
        ".",
    )
    follows = [sum(_follows(run) for run in each.measured) for each in (attending, plain_ones)]
    worth = [mean(each.by_seed("full") - each.by_seed("solo")) for each in (attending, plain_ones)]
    presence = differs(*(each.by_seed("full") - each.by_seed("solo") for each in (attending, plain_ones)))
    counted = text(
        "The expert's being there, against its never being, is worth ",
        value(worth[0], attending.runs),
        " with the loss and ",
        value(worth[1], plain_ones.runs),
        f" without it. Of {study.seeds} trainings each, {follows[0]} and {follows[1]} follow, which is to score half of"
        " what the expert does beside it, a quarter of it for its being there.",
    )
    kept = attending.over_seeds("kept")
    remembered = text(
        "What remembering adds to the second half of an episode, when the expert has gone, is ",
        value(kept, attending.runs),
        " with the loss: ",
        "it begins to remember." if kept.above(0) else "it is not seen to remember.",
    )
    return [
        Finding(compared, "clear" if gained.excludes_zero else "uncertain"),
        Finding(counted, "clear" if presence.excludes_zero else "uncertain"),
        Finding(remembered, "clear" if kept.excludes_zero else "uncertain"),
        *_probe_finding(study, done),
    ]


def _follows(run: Run) -> bool:
    full, solo, expert = (run.result[key]["mean"] for key in ("full", "solo", "expert"))
    return full >= expert / 2 and full - solo >= expert / 4


def _probe_finding(study: Follow, done: Mapping[Recipe, Run]) -> list[Finding]:
    if not all(_follows(run) for run in groups(study, done)[0].measured):
        return []  # who does not follow at home
    rows = [row for row in _probes(study, done) if row["attends"]]
    worst, other = sorted(rows, key=lambda row: row["share"]["mean"])[:2]
    apart = mean(np.array(other["shares"]) - np.array(worst["shares"]))
    said = text(
        "Of the probes, agents with the loss earn the least of the expert's score in the type ",
        f"“{worst['world']}” with {worst['goals']} goals: ",
        value(mean(np.array(worst["shares"])), tuple(worst["runs"]), digits=2),
        f" of it; next is “{other['world']}” with {other['goals']}, ",
        value(mean(np.array(other["shares"])), tuple(other["runs"]), digits=2),
        ".",
    )
    return [Finding(said, "clear" if apart.above(0) else "uncertain")]


def _probes(study: Follow, done: Mapping[Recipe, Run]) -> list[dict[str, Any]]:
    """Return each probe: the agents' score with the expert there, by training, and as a share of the expert's."""
    rows = []
    for attends in (True, False):
        by_seed = [study.probed(attends, n) for n in range(study.seeds)]
        for same in zip(*by_seed, strict=True):
            world, goals, _ = same[0]
            runs = [done[probe] for _, _, probe in same]
            scores = [run.result["full"]["mean"] for run in runs]
            shares = [run.result["full"]["mean"] / max(run.result["expert"]["mean"], 1e-9) for run in runs]
            rows.append({
                "attends": attends, "world": world, "goals": goals, "scores": scores, "shares": shares,
                "score": mean(np.array(scores)).to_json(), "share": mean(np.array(shares)).to_json(),
                "expert": float(np.mean([run.result["expert"]["mean"] for run in runs])),
                "runs": [run.id for run in runs],
            })  # fmt: skip
    return rows


def page(study: Follow, done: Mapping[Recipe, Run]) -> Report:
    """Return the whole page."""
    behind = {done[recipe].id: done[recipe] for recipe in study.plan(done)}
    return Report(
        title="Following",
        question="Does predicting where an expert is make an agent follow it?",
        abstract=(Findings(tuple(findings(study, done))),),
        sections=(_learning(study, done), _episode(study, done), _probing(study, done), _method(study)),
        runs=cards(behind.values()),
    )


def _learning(study: Follow, done: Mapping[Recipe, Run]) -> Section:
    both = groups(study, done)
    return Section(
        "How it was learned",
        (
            growth_chart(
                both,
                "full",
                "score with the expert there",
                f"The score of an episode of {study.steps} steps in worlds of {study.goals} goals, the same at every"
                " evaluation.",
            ),
            parts_table(both),
            phase_table(both),
        ),
    )


def _episode(study: Follow, done: Mapping[Recipe, Run]) -> Section:
    attending, plain_ones = groups(study, done)
    return Section(
        "An episode",
        (
            film(
                attending.measured[0],
                "An agent that was raised with the attention loss, beside its expert, which leaves half-way. The first"
                " of the worlds in which it was measured, not a chosen one.",
            ),
            episode_chart(attending),
            recall_table((attending, plain_ones)),
        ),
    )


def _probing(study: Follow, done: Mapping[Recipe, Run]) -> Section:
    rows = _probes(study, done)
    names = dict.fromkeys(row["world"] for row in rows)
    table = []
    for world in names:
        for goals in sorted({row["goals"] for row in rows}):
            pair = {row["attends"]: row for row in rows if (row["world"], row["goals"]) == (world, goals)}
            table.append((
                world,
                goals,
                *(value(mean(np.array(pair[a]["scores"])), tuple(pair[a]["runs"])) for a in (True, False)),
                value(mean(np.array([pair[True]["expert"]])), tuple(pair[True]["runs"])),
            ))  # fmt: skip
    return Section(
        "Probes",
        (
            Table(
                ("world", "goals", NAMES[True], NAMES[False], "the expert itself"),
                tuple(table),
                caption=f"Scores with the expert there, in {study.probes} worlds of each type, {study.episodes}"
                " episodes of each. Means over trainings with 95% intervals over trainings.",
            ),
        ),
        intro=f"All agents were raised in empty worlds with {study.goals} goals, which is one of the rows; worlds"
        " with walls or slow ground, and other numbers of goals, they have not been in. The worlds drawn are new to"
        " them.",
    )


def _method(study: Follow) -> Section:
    return Section(
        "How it was done",
        (
            text(
                f"GoalCycle on a grid of 5 by 5: {study.goals} goals of {study.colours} colours, of which nobody is"
                " told the cyclic order that is drawn for each episode. Entering the next goal counts 1, another -1."
                " The expert knows the order and takes shortest ways. An agent sees where everything is relative to"
                " itself, and what its last step counted."
            ),
            text(
                "It learns by proximal policy optimisation over whole episodes, with gated recurrent units as memory."
                " Scores are always of the game; in training a wrong goal costs a fifth at first and more as the agent"
                " earns more, and an episode begins with the agent and its expert in one cell. Once it earns 0.6 of the"
                " expert's score beside it, the expert is absent at times."
            ),
            text(
                "The attention loss is the L1 distance between where the agent thinks the expert is and where it is,"
                f" relative to itself, while it can be seen, with weight {study.attention:g}. Nothing else differs"
                " between the agents: the worlds and first weights of a seed are the same."
            ),
        ),
    )
