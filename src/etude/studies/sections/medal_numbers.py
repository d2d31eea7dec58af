"""The numbers and the findings of MEDAL-ADR and its ablations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.statistics import Estimate, mean
from etude.report.blocks import Finding, Value, text
from etude.studies.sections.findings import plain
from etude.studies.sections.raised_blocks import value
from etude.studies.sections.raised_numbers import Raised, differs

if TYPE_CHECKING:
    from etude.studies.medal import Medal


def agents(study: Medal, goals: int, done: Mapping[Recipe, Run]) -> list[Raised]:
    """Return every agent in worlds of so many goals, the whole one first."""
    from etude.studies.medal import AGENTS

    seeds = range(study.seeds)
    return [
        Raised(
            name,
            goals,
            tuple(done[study.agent(goals, name, n)] for n in seeds),
            tuple(done[study.transmission(goals, name, n)] for n in seeds),
        )
        for name in AGENTS
    ]


def numbers(study: Medal, done: Mapping[Recipe, Run]) -> dict[str, Any]:
    """Return the scores of every agent, the probes, what misleads, the social neurons and the findings."""
    every = [each for goals in study.goals for each in agents(study, goals, done)]
    return {
        "agents": [each.to_json() for each in every],
        "without": [row for goals in study.goals for row in without(study, goals, done)],
        "probes": [row for goals in study.goals for row in probes(study, goals, done)],
        "misled": [row for goals in study.goals for row in misled(study, goals, done)],
        "boundaries": [row for goals in study.goals for row in boundaries(study, goals, done)],
        "social": [
            {"goals": goals, "agent": name, **done[study.social(goals, name)].outcome}
            for goals in study.goals
            for name in study.with_neurons
        ],
        "findings": [{"text": plain(f.text), "strength": f.strength} for f in findings(study, done)],
    }


def without(study: Medal, goals: int, done: Mapping[Recipe, Run]) -> list[dict[str, Any]]:
    """Return what each agent that lacks something has less than the whole one, of following and of what is kept."""
    whole, *others = agents(study, goals, done)
    rows = []
    for other in others:
        changes = {
            key: differs(whole.by_seed(key), other.by_seed(key)).to_json() for key in ("full", "kept", "beyond_solo")
        }
        rows.append({"goals": goals, "agent": other.name, **changes, "runs": [*whole.runs, *other.runs]})
    return rows


def probes(study: Medal, goals: int, done: Mapping[Recipe, Run]) -> list[dict[str, Any]]:
    """Return each probe of the agents that are probed: cultural transmission with its parts, and what is kept."""
    from etude.studies.medal import FIXED, PLAIN, WHOLE

    rows = []
    for name in (WHOLE, FIXED, PLAIN):
        for same in zip(*(study.probed(goals, name, n) for n in range(study.seeds)), strict=True):
            runs = [done[recipe] for _, recipe in same]
            keys = ("full", "half", "solo", "expert", "transmission", "kept")
            found = {key: mean(np.array([run.result[key]["mean"] for run in runs])).to_json() for key in keys}
            rows.append({
                "goals": goals, "agent": name, "probe": same[0][0], **found, "runs": [run.id for run in runs]
            })  # fmt: skip
    return rows


def misled(study: Medal, goals: int, done: Mapping[Recipe, Run]) -> list[dict[str, Any]]:
    """Return what an expert that goes the wrong way round does to agents that are alone otherwise."""
    from etude.studies.medal import ALWAYS, WHOLE

    rows = []
    for name in (WHOLE, ALWAYS):
        runs = [done[study.misled(goals, name, n)] for n in range(study.seeds)]
        held = {key: np.array([run.result[key]["mean"] for run in runs]) for key in ("full", "solo", "expert", "near")}
        rows.append({
            "goals": goals, "agent": name, **{key: mean(values).to_json() for key, values in held.items()},
            "lost": mean(held["solo"] - held["full"]).to_json(), "runs": [run.id for run in runs],
        })  # fmt: skip
    return rows


def boundaries(study: Medal, goals: int, done: Mapping[Recipe, Run]) -> list[dict[str, Any]]:
    """Return where automatic randomisation ended, by field and training."""
    from etude.studies.medal import RANGES, WHOLE

    runs = [done[study.agent(goals, WHOLE, n)] for n in range(study.seeds)]
    return [
        {
            "goals": goals,
            "field": each.field,
            "last": each.last,
            "reached": [run.result["boundaries"][each.field] for run in runs],
            "runs": [run.id for run in runs],
        }
        for each in RANGES
    ]


def findings(study: Medal, done: Mapping[Recipe, Run]) -> list[Finding]:
    """Return what was found, for each number of goals, no firmer than the trainings agree."""
    found: list[Finding] = []
    for goals in study.goals:
        whole = agents(study, goals, done)[0]
        found += [_remembers(whole), _beyond(whole)]
        found += [finding for row in without(study, goals, done) for finding in _ablation(row)]
        found += [_harder(study, goals, done), *(_misled(row) for row in misled(study, goals, done)[:1])]
    return found


def _remembers(whole: Raised) -> Finding:
    kept = whole.over_seeds("kept")
    said = text(
        f"With {whole.goals} goals, after the expert has gone, the whole agent scores ",
        value(whole.over_seeds("recalled"), whole.runs),
        " in the second half of an episode, and from the same states with its memory emptied ",
        value(whole.over_seeds("forgot"), whole.runs),
        ": what it remembers is worth ",
        value(kept, whole.runs),
        ". With the expert there it would have been ",
        value(whole.over_seeds("full_late"), whole.runs),
        ".",
    )
    return Finding(said, _firm(kept, whole.by_seed("kept")))


def _beyond(whole: Raised) -> Finding:
    over = whole.over_seeds("beyond_solo")
    said = text(
        f"With {whole.goals} goals the second half after an expert is worth ",
        value(over, whole.runs),
        " more than the second half of an episode alone, which is ",
        value(whole.over_seeds("solo_late"), whole.runs),
        "; cultural transmission is ",
        value(whole.over_seeds("transmission"), whole.runs, digits=2),
        " (expert there ",
        value(whole.over_seeds("full"), whole.runs),
        ", there for half ",
        value(whole.over_seeds("half"), whole.runs),
        ", alone ",
        value(whole.over_seeds("solo"), whole.runs),
        ", the expert itself ",
        value(whole.over_seeds("expert"), whole.runs),
        ").",
    )
    return Finding(said, _firm(over, whole.by_seed("beyond_solo")))


def _firm(estimate: Estimate, by_seed: np.ndarray) -> str:
    """Return how firm a mean over trainings stands: not clear, it is uncertain where all are of one sign, else none."""
    if estimate.excludes_zero:
        return "clear"
    signs = np.sign(by_seed)
    return "uncertain" if abs(signs.sum()) == len(signs) else "none"


def _ablation(row: dict[str, Any]) -> list[Finding]:
    """Return what an ingredient does to following, and to what an expert is worth when it has gone: one finding where
    both stand as firmly, else two."""
    follows, keeps = (Estimate.from_json(row[key]) for key in ("full", "beyond_solo"))
    runs = tuple(row["runs"])
    who = f"With {row['goals']} goals, {row['agent']}: "
    following = ("the score beside the expert is ", *_moved(follows.scaled(-1), runs))
    keeping = ("what an expert that has gone is worth over solo play is ", *_moved(keeps.scaled(-1), runs))
    firm = ["clear" if change.excludes_zero else "uncertain" for change in (follows, keeps)]
    end = " than that of the whole agent"
    if firm[0] == firm[1]:
        return [Finding(text(who, *following, f"{end}, and ", *keeping, "."), firm[0])]
    parts = zip((following, keeping), firm, strict=True)
    return [Finding(text(who, *said, f"{end}."), strength) for said, strength in parts]


def _harder(study: Medal, goals: int, done: Mapping[Recipe, Run]) -> Finding:
    """Return what automatic randomisation is worth in the hardest probe, against none."""
    from etude.studies.medal import FIXED, WHOLE

    held = {}
    for name in (WHOLE, FIXED):
        runs = [done[dict(study.probed(goals, name, n))["both"]] for n in range(study.seeds)]
        held[name] = np.array([run.result["full"]["mean"] for run in runs]), tuple(run.id for run in runs)
    (whole, mine), (fixed, theirs) = held[WHOLE], held[FIXED]
    change = differs(whole, fixed)
    said = text(
        f"With {goals} goals, in worlds of obstacles and slow ground with an expert that waits and errs, the whole"
        " agent scores ",
        value(mean(whole), mine),
        " beside it, ",
        *_moved(change, (*mine, *theirs)),
        " than the agent without randomisation.",
    )
    return Finding(said, "clear" if change.excludes_zero else "uncertain")


def _moved(change: Estimate, runs: tuple[str, ...]) -> tuple[Value | str, ...]:
    """Return a change in words: by how much more, or less."""
    return (value(change if change.mean >= 0 else change.scaled(-1), runs), " more" if change.mean >= 0 else " less")


def _misled(row: dict[str, Any]) -> Finding:
    lost = Estimate.from_json(row["lost"])
    runs = tuple(row["runs"])
    said = text(
        f"With {row['goals']} goals, beside an expert that goes the wrong way round the whole agent scores ",
        value(Estimate.from_json(row["full"]), runs),
        ", ",
        *_moved(lost.scaled(-1), runs),
        " than alone.",
    )
    return Finding(said, "clear" if lost.excludes_zero else "uncertain")
