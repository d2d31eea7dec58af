"""The page of prompts as a subject."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.prompting import FRAMES, SEPARATOR
from etude.evals.statistics import Estimate
from etude.report.blocks import Block, Code, Finding, Findings, Report, Section, Table, Value, text
from etude.report.charts import Axis, Rule, lines
from etude.studies.sections.cards import cards
from etude.studies.sections.prompts_numbers import Answers, curve, frames, gain, spread

if TYPE_CHECKING:
    from etude.studies.prompts import Prompts

PERCENT = 100


def page(study: Prompts, done: Mapping[Recipe, Run]) -> Report:
    """Return the whole page."""
    answers = Answers(study, done)
    behind = {done[recipe].id: done[recipe] for recipe in study.plan(done)}
    sections = [_curve(study, answers)]
    if len(study.grid) > 1:
        sections.append(_spread(study, answers))
    if study.framed:
        sections.append(_frames(study, answers))
    return Report(
        title="How a question is put",
        question="How much does the model's score depend on the number of examples, which they are, their order, the"
        " wording and the frame?",
        abstract=(Findings(tuple(findings(study, answers))),),
        sections=(*sections, _method(study, answers)),
        runs=cards(behind.values()),
    )


def findings(study: Prompts, answers: Answers) -> list[Finding]:
    """Return what was found, each with how firmly it stands."""
    rows, said = curve(study, answers), list[Finding]()
    added = gain(rows)
    if added is not None:
        runs = (*rows[0]["runs"], *rows[-1]["runs"])
        most, few = rows[-1]["shots"], rows[0]["shots"]
        if added.excludes_zero:
            verb = "raise" if added.mean > 0 else "lower"
            words = text(
                f"{most} examples {verb} the score over {few}: ",
                _points(added, runs),
                ", whichever examples are drawn.",
            )
            said.append(Finding(words, "clear"))
        elif added.n > 1 and added.low == added.high == 0:
            said.append(Finding(text(f"With {most} examples no item is answered otherwise than with {few}."), "none"))
        else:
            words = text(f"{most} examples change nothing that is seen over {few}: ", _points(added, runs), ".")
            said.append(Finding(words, "uncertain"))
    if len(study.grid) > 1:
        said.append(_of_spread(study, answers))
    moved = [row for row in frames(study, answers) if Estimate.from_json(row["change"]).excludes_zero]
    for row in moved:
        words = text(
            f"The frame ‘{row['frame']}’ moves the score by ",
            _points(Estimate.from_json(row["change"]), (row["run"],)),
            ".",
        )
        said.append(Finding(words, "uncertain" if len(study.framed) > 1 else "clear"))
    if study.framed and not moved:
        said.append(Finding(text("No frame moves the score by more than its interval."), "none"))
    return said


def _of_spread(study: Prompts, answers: Answers) -> Finding:
    found = spread(study, answers)
    runs = tuple(answers.run(prompt).id for prompt in study.grid.values())
    low, high = PERCENT * float(found.scores.min()), PERCENT * float(found.scores.max())
    share = Value(PERCENT * found.prompts, run=runs, unit="points", digits=1)
    error = Value(PERCENT * found.sampling, run=runs, unit="points", digits=1)
    words = text(
        f"{len(study.grid)} prompts of the same items score ",
        Value(low, run=runs, unit="%", digits=1),
        " to ",
        Value(high, run=runs, unit="%", digits=1),
        ": how they are put has a standard deviation of ",
        share,
        ", beside a sampling error of ",
        error,
        f" of each on {found.items:,} items.",
    )
    return Finding(words, "clear" if found.chance < 0.05 else "uncertain")


def _points(estimate: Estimate, runs: tuple[str, ...]) -> Value:
    one = estimate.scaled(PERCENT)
    return Value(one.mean, one.low, one.high, run=tuple(dict.fromkeys(runs)), unit="points", digits=1)


def _share(data: Mapping[str, Any], runs: tuple[str, ...] | str) -> Value:
    return Value(PERCENT * data["mean"], PERCENT * data["low"], PERCENT * data["high"], run=runs, digits=1)


def _curve(study: Prompts, answers: Answers) -> Section:
    rows = curve(study, answers)
    points = [
        {
            "shots": row["shots"],
            "score": PERCENT * row["score"]["mean"],
            "low": PERCENT * row["score"]["low"],
            "high": PERCENT * row["score"]["high"],
            "run": row["runs"][0],
        }
        for row in rows
    ]
    chance = answers.run(study.plain).result["scores"]["accuracy"]["chance"]
    drawn = lines(
        points,
        Axis("shots", "examples before the question"),
        Axis("score", "score (%)"),
        caption=f"The score by the number of examples, over {study.seeds} draws of them; 95% intervals over items.",
        low="low",
        high="high",
        rules=(Rule("chance", PERCENT * chance),) if chance else (),
        run="run",
        height=240,
    )
    table = Table(
        ("examples", "score (%)", "least draw (%)", "greatest draw (%)", "change (points)"),
        tuple(
            (
                row["shots"],
                _share(row["score"], tuple(row["runs"])),
                f"{PERCENT * min(row['draws']):.1f}",
                f"{PERCENT * max(row['draws']):.1f}",
                None if row["change"] is None else _points(Estimate.from_json(row["change"]), tuple(row["runs"])),
            )
            for row in rows
        ),
        caption=f"On the items that fitted the context with every number of examples. A change is to"
        f" {rows[0]['shots']} examples, paired by item.",
    )
    return Section("Learning in context", (drawn, table))


def _spread(study: Prompts, answers: Answers) -> Section:
    from etude.studies.prompts import named

    found = spread(study, answers)
    runs = tuple(answers.run(prompt).id for prompt in study.grid.values())
    rows: list[tuple[Any, ...]] = [
        (name, len(levels) or study.orders, Value(PERCENT * value, run=runs, digits=2))
        for (name, value), levels in zip(found.factors.items(), found.levels.values(), strict=True)
        if value is not None
    ]
    rows += [
        ("all prompts", len(study.grid), Value(PERCENT * found.prompts, run=runs, digits=2)),
        ("sampling error of one score", "", Value(PERCENT * found.sampling, run=runs, digits=2)),
    ]
    table = Table(
        ("what varies", "levels", "standard deviation (points)"),
        tuple(rows),
        caption="What the score would vary by on all such items, the noise of these items taken off (0 where nothing is"
        " left); of a factor, over all levels of the others; of orders, within a draw of examples. Below it the error"
        " that the choice of items gives one score.",
    )
    each = Table(
        ("wording", "draw", "order", "score (%)"),
        tuple(
            (named(w), s, o, Value(PERCENT * float(score), run=answers.run(prompt).id, digits=1))
            for ((w, s, o), prompt), score in zip(study.grid.items(), found.scores, strict=True)
        ),
        caption=f"Every prompt, with {study.crossed} examples, on the {found.items:,} items that fitted all of them.",
    )
    return Section("Wording, examples, order", (table, each))


def _frames(study: Prompts, answers: Answers) -> Section:
    rows = tuple(
        (
            row["frame"],
            Code((FRAMES[row["frame"]].before + SEPARATOR + FRAMES[row["frame"]].around).strip()),
            _share(row["score"], row["run"]),
            _points(Estimate.from_json(row["change"]), (row["run"],)),
        )
        for row in frames(study, answers)
    )
    caption = "What is written around the question, without examples, and what it changes, paired by item."
    return Section("Frames", (Table(("frame", "text", "score (%)", "change (points)"), rows, caption),))


def _method(study: Prompts, answers: Answers) -> Section:
    result = answers.run(study.plain).result
    blocks: list[Block] = [
        text(
            "The task is ",
            Code(study.task.name),
            ", of which ",
            Value(result["n"], run=answers.run(study.plain).id),
            " items were asked. ",
            "All questions are shown the same examples; one that is asked is never among them. Of several answers the"
            f" likeliest is chosen ({study.metric}). A score depends on the items, on how they are put and on the"
            " training; the last is not varied here.",
        )
    ]
    return Section("How it was asked", tuple(blocks))
