"""Blocks that pages of raised agents share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from etude.core.run import Run
from etude.culture.film import drawn
from etude.culture.layout import Layout
from etude.culture.walk import Walk
from etude.evals.statistics import Estimate
from etude.report.blocks import Block, Drawing, Table, Value, text
from etude.report.charts import Axis, Rule, lines
from etude.studies.sections.raised_numbers import Raised, growth, phases, within_episode

MILLIONS = Axis("millions", "environment steps (millions)")


def value(estimate: Estimate, runs: str | tuple[str, ...], digits: int = 1, **more: Any) -> Value:
    """Return an estimate linked to its runs; of one training alone it has no interval."""
    if estimate.n < 2:
        return Value(estimate.mean, run=runs, digits=digits, **more)
    return Value(estimate.mean, estimate.low, estimate.high, run=runs, digits=digits, **more)


def parts_table(agents: Sequence[Raised]) -> Table:
    """Return cultural transmission of agents with the four scores that it is made of."""
    first = agents[0]
    columns = ("agent", "expert there", "there for half", "alone", "transmission")
    rows = [
        (
            each.name,
            *(value(each.over_seeds(key), each.runs) for key in ("full", "half", "solo")),
            value(each.over_seeds("transmission"), each.runs, digits=2),
        )
        for each in agents
    ]
    return Table(
        columns,
        tuple(rows),
        caption=text(
            "Scores of an episode, and cultural transmission, ½ (there - alone) / expert + ½ (half - alone) / expert."
            " Its fourth part, the expert's own score in these worlds, is ",
            value(first.over_seeds("expert"), first.runs),
            ". A score below 0 alone raises it, and a good one lowers it. Means over",
            f" {len(first.agents)} trainings with 95% intervals over trainings.",
        ),
    )


def recall_table(agents: Sequence[Raised]) -> Table:
    """Return what is left after the expert has gone, against an emptied memory and against being alone."""
    columns = ("agent", "expert gone", "of that, by memory", "alone", "beyond solo play")
    rows = [
        (
            each.name,
            *(value(each.over_seeds(key), each.runs) for key in ("recalled", "kept", "solo_late", "beyond_solo")),
        )
        for each in agents
    ]
    return Table(
        columns,
        tuple(rows),
        caption="Scores of the second half of an episode. The expert was there in the first half and is gone. “By"
        " memory” is what is lost by going on from the very same states with an emptied memory. “Alone” is the second"
        " half of an episode without any expert, in which an agent may have found the order out by itself; “beyond solo"
        " play” is what having seen the expert adds to that.",
    )


def growth_chart(agents: Sequence[Raised], key: str, title: str, caption: str) -> Block:
    """Return how a score grew with training, a line for each agent."""
    rows = [row for each in agents for row in growth(each)]
    expert = float(np.mean([row["of_expert"] for row in rows]))
    rules = [Rule("the expert itself", expert, agents[0].agents[0].id)] if key in ("full", "half", "solo") else []
    return lines(
        rows,
        MILLIONS,
        Axis(key, title),
        colour="agent",
        colour_title="agent",
        low=f"{key}_low",
        high=f"{key}_high",
        run="run",
        points=False,
        rules=rules,
        caption=f"{caption} Lines are means over trainings, bands reach from the lowest to the highest of them.",
    )


def parts_chart(raised: Raised) -> Block:
    """Return how the scores of one agent grew, with the expert and without."""
    keys = {"full": "expert there", "half": "there for half", "solo": "alone", "forgot": "second half, memory emptied",
            "recalled": "second half, remembering"}  # fmt: skip
    rows = [
        {"millions": row["millions"], "score": row[key], "low": row[f"{key}_low"], "high": row[f"{key}_high"],
         "play": name, "run": row["run"]}
        for row in growth(raised) for key, name in keys.items()
    ]  # fmt: skip
    return lines(
        rows,
        MILLIONS,
        Axis("score", "score"),
        colour="play",
        colour_title="score of",
        low="low",
        high="high",
        run="run",
        points=False,
        caption=f"{raised.name}, {raised.goals} goals: how its scores grew. Lines are means over trainings, bands reach"
        " from the lowest to the highest of them.",
    )


def episode_chart(raised: Raised) -> Block:
    """Return the score along an episode, by way of playing."""
    rows = within_episode(raised)
    return lines(
        rows,
        Axis("step", "step of the episode"),
        Axis("score", "score, at the rate of an episode"),
        colour="play",
        colour_title="played with",
        run="run",
        points=False,
        caption=f"{raised.name}, {raised.goals} goals: when it scores in an episode. The expert leaves half-way in two"
        " of the four; what one keeps and the other lost is the agent's memory. Means over worlds and trainings.",
    )


def phase_table(agents: Sequence[Raised]) -> Table:
    """Return the phases that each training went through, in millions of environment steps."""
    rows = []
    for each in agents:
        for run in each.agents:
            said = ", then ".join(f"{one['phase']} from {one['from'] / 1e6:.1f}" for one in phases(run))
            rows.append((each.name, int(run.recipe_data["seed"]), said))
    return Table(
        ("agent", "seed", "phases, in millions of environment steps"),
        tuple(rows),
        caption="“Following” is half of the expert's score or more beside it, a quarter of it for its being there;"
        " “remembering” is, besides, a score above 0 in the second half, the expert gone, a twentieth of its episode of"
        " it for what was remembered; “alone” is half of its score with no expert, or without a quarter owed to it."
        " They are read from evaluations while it was raised, so that a step between two is not known more finely.",
    )


def film(run: Run, caption: str) -> Drawing:
    """Return an episode that a measurement kept: the first of its worlds, the expert leaving half-way."""
    held = run.tensors("episode.safetensors")
    layout = Layout.of(
        int(held["size"][0]), *(held[name][None] for name in ("walls", "slow", "goals", "following", "starts"))
    )
    walk = Walk(layout, held["cells"].astype(np.int64), held["entered"].astype(np.int64), held["present"].astype(bool))
    return drawn(walk, caption, runs=(run.id,))
