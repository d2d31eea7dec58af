"""The page of a family: tasks, dialogue and toxicity against scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.report.blocks import Block, Finding, Findings, Report, Section, Table, text
from etude.report.charts import Axis, lines
from etude.studies.sections.cards import cards, measured
from etude.studies.sections.dialogue_numbers import told
from etude.studies.sections.tasks_numbers import members

if TYPE_CHECKING:
    from etude.studies.gopher import Gopher


def page(study: Gopher, done: Mapping[Recipe, Run]) -> Report:
    """Return the pages of its studies as one, with dialogue over all sizes before that of the largest model."""
    tasks, toxicity = study.asked.tell(done), study.toxicity.tell(done)
    order = [of for of, _ in members(study.asked, done)]
    largest = next(talk for talk in study.talks if talk.of == order[-1]).tell(done)
    behind = {done[recipe].id: done[recipe] for recipe in study.plan(done)}
    return Report(
        title="A family of models, after the Gopher report",
        question="What does scale bring this family: on which tasks, in dialogue by prompt and by tuning, and in the"
        " toxicity of what it writes?",
        abstract=(
            text("Tasks."),
            *_findings(tasks),
            text(f"Dialogue, of the largest model ({members(study.asked, done)[-1][1]:,} parameters)."),
            *_findings(largest),
            text("Toxicity; what is uncertain stands in the section on what size and condition change."),
            Findings(_firm(toxicity)),
        ),
        sections=(
            Section("Tasks", tasks.sections),
            Section("Dialogue over sizes", _over_sizes(study, done)),
            Section("Dialogue, the largest model", largest.sections),
            Section("Toxicity", toxicity.sections),
        ),
        runs=cards(behind.values()),
    )


def _findings(report: Report) -> tuple[Findings, ...]:
    return tuple(block for block in report.abstract if isinstance(block, Findings))


def _firm(report: Report) -> tuple[Finding, ...]:
    """Return the first finding, on what the judge is worth, and those of the others that are clear."""
    first, *others = (finding for block in _findings(report) for finding in block.items)
    return first, *(finding for finding in others if finding.strength == "clear")


def _over_sizes(study: Gopher, done: Mapping[Recipe, Run]) -> tuple[Block, ...]:
    by_model = {talk.of: talk for talk in study.talks}
    points, rows = list[dict[str, Any]](), list[tuple[Any, ...]]()
    for of, parameters in members(study.asked, done):
        found = told(by_model[of], done)
        ways = found["replies"]["ways"]
        for way, row in ways.items():
            bits = row["bits_per_byte"]
            points.append(
                {
                    "size": parameters,
                    "bits": bits["mean"],
                    "low": bits["low"],
                    "high": bits["high"],
                    "way": way,
                    "run": row["run"],
                }
            )
        rows.append((f"{parameters:,}", *(measured(row["bits_per_byte"], row["run"]) for row in ways.values())))
    drawn = lines(
        points,
        Axis("size", "parameters", log=True),
        Axis("bits", "bits per byte of held-out replies"),
        caption="How likely each model finds held-out replies: as it is, with the dialogue prompt before them, and"
        " tuned on dialogues. Lower is better; 95% intervals over replies.",
        colour="way",
        colour_title="model",
        low="low",
        high="high",
        run="run",
        height=240,
    )
    caption = "The same, in bits per byte. All three of a size read the same replies."
    return drawn, Table(("parameters", "vanilla", "prompted", "tuned"), tuple(rows), caption)
