"""The page of a family's tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.statistics import Estimate
from etude.report.blocks import Block, Finding, Findings, Report, Section, Table, Value, text
from etude.report.charts import Axis, Rule, lines
from etude.studies.sections.cards import cards
from etude.studies.sections.tasks_numbers import ALL, Grown, Scored, calibrations, grown, members, scored, unmet

if TYPE_CHECKING:
    from etude.studies.family import Family

PERCENT = 100


def page(study: Family, done: Mapping[Recipe, Run]) -> Report:
    """Return the whole page."""
    order, tasks = members(study, done), scored(study, done)
    sizes = [parameters for _, parameters in order]
    found = grown(study, tasks, sizes)
    behind = {done[recipe].id: done[recipe] for recipe in study.plan(done)}
    return Report(
        title="A family asked many tasks",
        question="Which kinds of tasks do larger models of this family do better, and which not?",
        abstract=(Findings(tuple(findings(study, done, tasks, found))),),
        sections=(
            _categories(tasks, found, sizes),
            _tasks(tasks, sizes),
            *_calibration(study, done, tasks),
            _method(study, done, tasks),
        ),
        runs=cards(behind.values()),
    )


def findings(
    study: Family, done: Mapping[Recipe, Run], tasks: Sequence[Scored], found: Sequence[Grown]
) -> list[Finding]:
    """Return what was found, each with how firmly it stands."""
    sizes, said = [parameters for _, parameters in members(study, done)], list[Finding]()
    span = f"from {sizes[0]:,} to {sizes[-1]:,} parameters"
    categories = [one for one in found if one.name != ALL] or list(found)
    for one in (one for one in categories if one.together):
        verb = "does better" if one.together > 0 else "does worse"
        words = text(
            f"The larger model {verb} on {one.name}, {span}: ",
            _shown(one.slope, _ends(tasks, one), unit="points a doubling"),
            ", ",
            _shown(one.difference, _ends(tasks, one), unit="points"),
            " in all.",
        )
        said.append(Finding(words, "clear"))
    still = [one.name for one in categories if not one.together]
    if still:
        widened = (
            "interval, widened so that those of all categories hold together," if len(categories) > 1 else "interval"
        )
        words = (
            f"No growth is seen {span}: of no category does the slope's {widened} leave out 0."
            if len(still) == len(categories)
            else f"No growth is seen for {', '.join(still)}: the slope's {widened} holds 0."
        )
        said.append(Finding(text(words), "none"))
    able = [one.name for one in categories if one.able]
    words = (
        f"The largest model answers better than who always gives one number of choice on {', '.join(able)}."
        if able
        else "On no category is the largest model better than who always gives the one number of choice that is right"
        " most often."
    )
    said.append(Finding(text(words), "clear" if able else "none"))
    masses = [one for one in categories if one.mass is not None and one.mass.excludes_zero and not one.together]
    if masses:
        one = max(masses, key=lambda one: abs(one.mass.mean if one.mass else 0))
        assert one.mass is not None
        words = text(
            f"The share of the probability that right answers have moves where accuracy does not, most on {one.name}: ",
            _shown(one.mass, _ends(tasks, one), unit="points a doubling", digits=2),
            ".",
        )
        said.append(Finding(words, "uncertain"))
    return said


def _ends(tasks: Sequence[Scored], one: Grown) -> tuple[str, ...]:
    """Return the evaluations that a category's numbers rest on: those of the smallest and the largest model."""
    held = [task for task in tasks if one.name in (task.category, ALL)]
    return tuple(dict.fromkeys(run for task in held for run in (task.runs[0], task.runs[-1])))


def _shown(estimate: Estimate, runs: tuple[str, ...], unit: str = "", digits: int = 1) -> Value:
    one = estimate.scaled(PERCENT)
    return Value(one.mean, one.low, one.high, run=runs, unit=unit, digits=digits)


def _categories(tasks: Sequence[Scored], found: Sequence[Grown], sizes: Sequence[int]) -> Section:
    ordered = sorted(found, key=lambda one: (one.name == ALL, -one.slope.mean))
    scores = tuple(
        (
            one.name,
            one.tasks,
            one.items,
            f"{PERCENT * one.chance:.1f}",
            f"{PERCENT * one.blind:.1f}",
            _shown(one.scores[0], _ends(tasks, one)),
            _shown(one.scores[-1], _ends(tasks, one)),
        )
        for one in ordered
    )
    head = ("category", "tasks", "items", "chance (%)", "one number (%)", *(f"{compact(n)} (%)" for n in _two(sizes)))
    caption = (
        f"Accuracy of the smallest and the largest model, of {sizes[0]:,} and {sizes[-1]:,} parameters. ‘One number’ is"
        " what always giving the same number of choice comes to: a model may reach it without reading the question."
    )
    slopes = tuple(
        (
            one.name,
            _shown(one.slope, _ends(tasks, one), digits=2),
            None if one.mass is None else _shown(one.mass, _ends(tasks, one), digits=2),
        )
        for one in ordered
    )
    grows = (
        "Most helped by scale first. A slope is per doubling of the parameters, by least squares over all models. The"
        " mass is the share of the probability of all answers that the right ones have, which moves before the choice"
        " does. Intervals (95%) are of a bootstrap over items, the same ones drawn for every model; those of single"
        " categories do not allow for there being several."
    )
    points = [
        {
            "size": size,
            "score": PERCENT * (score.mean - one.chance),
            "low": PERCENT * (score.low - one.chance),
            "high": PERCENT * (score.high - one.chance),
            "category": one.name,
            "run": _ends(tasks, one)[0],
        }
        for one in found
        for size, score in zip(sizes, one.scores, strict=True)
    ]
    drawn = lines(
        points,
        Axis("size", "parameters", log=True),
        Axis("score", "accuracy above chance (points)"),
        caption="Accuracy less what choosing blindly comes to, by category, with 95% intervals over items.",
        colour="category",
        colour_title="category",
        low="low",
        high="high",
        interval="bars",
        rules=(Rule("chance", 0.0),),
        run="run",
    )
    growth = Table(("category", "accuracy a doubling (points)", "mass a doubling (points)"), slopes, grows)
    return Section("By category", (drawn, Table(head, scores, caption), growth))


def _two(sizes: Sequence[int]) -> tuple[int, int]:
    return sizes[0], sizes[-1]


def compact(number: int) -> str:
    """Return a size in few characters: `68.7k`, `1.31M`."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.3g}{letter}"
    return str(number)


def _tasks(tasks: Sequence[Scored], sizes: Sequence[int]) -> Section:
    head = ("task", "items", "chance", "one number", *map(compact, sizes))
    tables = list[Block]()
    for category in dict.fromkeys(task.category for task in tasks):
        rows = tuple(
            (
                task.name,
                task.right.shape[1],
                f"{PERCENT * task.chance:.1f}",
                "" if task.always_one is None else f"{PERCENT * task.always_one:.1f}",
                *(
                    Value(PERCENT * float(score), run=run, digits=1)
                    for score, run in zip(task.right.mean(axis=1), task.runs, strict=True)
                ),
            )
            for task in tasks
            if task.category == category
        )
        tables.append(Table(head, rows, f"{category}: accuracy of each model (%), by its parameters."))
    return Section("By task", tuple(tables))


def _calibration(study: Family, done: Mapping[Recipe, Run], tasks: Sequence[Scored]) -> list[Section]:
    found = calibrations(study, done, tasks)
    if not found:
        return []
    points = [
        {
            "confidence": bin["probability"],
            "accuracy": PERCENT * bin["share"],
            "model": f"{one['parameters']:,}",
            "run": one["run"],
        }
        for one in (found[0], found[-1])
        for bin in one["bins"]
        if bin["n"] >= 20
    ]
    blocks: list[Block] = []
    if points:
        blocks.append(
            lines(
                points,
                Axis("confidence", "confidence (share of the likeliest answer)"),
                Axis("accuracy", "right (%)"),
                caption="How often the likeliest answer is right, by how likely it is, of the smallest and the largest"
                " model; bins of ten hundredths with at least 20 items. Of a calibrated model so many"
                " hundredths are right as its confidence has.",
                colour="model",
                colour_title="parameters",
                run="run",
                height=240,
            )
        )
    rows = tuple(
        (f"{one['parameters']:,}", one["n"], Value(PERCENT * one["error"], run=one["run"], digits=1)) for one in found
    )
    caption = "Expected calibration error over ten bins, of the items with several answers that all were asked."
    return [Section("Calibration", (*blocks, Table(("parameters", "items", "error (points)"), rows, caption)))]


def _method(study: Family, done: Mapping[Recipe, Run], tasks: Sequence[Scored]) -> Section:
    put: dict[str, Any] = study.prompt.to_json()
    shots = f"{put['shots']} examples" if put["shots"] else "no examples"
    masked, unfit = sum(task.masked for task in tasks), sum(task.unfit for task in tasks)
    left = (f" {unfit:,} items did not fit the context of some model and were left out for all." if unfit else "") + (
        f" {masked:,} items are masked (mask {study.mask.sha256[:12]})." if masked else ""
    )
    gone = unmet(study, tasks)
    left += f" Of {', '.join(gone)} no item was left." if gone else ""
    words = text(
        f"Of each task at most {study.items:,} items" if study.items else "All items of each task",
        f" were asked, with {shots} before the question in the frame ‘{put['frame']}’. Of several answers the"
        f" likeliest is chosen ({study.metric}); a written one is right word for word.{left} A category's score is the"
        " mean of its"
        " tasks'. Which categories grow is judged by intervals of"
        f" {study.draws:,} draws, widened so that those of all categories hold together (Bonferroni). One training"
        " each: what another seed would change is not in the intervals. Tokenizer and prompt hashes are in each"
        " evaluation's result.",
    )
    return Section("How it was asked", (words,))
