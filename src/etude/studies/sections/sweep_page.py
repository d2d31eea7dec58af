"""The page of a sweep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.core.spec import label
from etude.report.blocks import Block, Cell, Details, Findings, Report, RunCard, Section, Table, text
from etude.report.charts import Axis as ChartAxis
from etude.report.charts import lines, parallel, scatter
from etude.studies.sections.axes import Axis
from etude.studies.sections.cards import card
from etude.studies.sections.sweep_findings import findings, mean_over, over, value
from etude.studies.sections.sweep_numbers import MOST_LEVELS, Tried, behind, effects, is_apart, tried

if TYPE_CHECKING:
    from etude.studies.sweep import Sweep

SHOWN = 30
"""Points in the first table; the others are folded away under it."""

MOST_SERIES = 6
"""Combinations of the other axes beyond which an axis is drawn as points and not as lines."""

CURVES = ("val_loss", "loss")
"""Columns of a record that are drawn over its steps: the first that is there."""

BEST, ALIKE, APART = "best", "not told apart from it", "worse"


def page(study: Sweep, done: Mapping[Recipe, Run]) -> Report:
    """Return the whole report."""
    points = tried(study, done)
    names = ", ".join(axis.name for axis in study.read)
    return Report(
        title="Sweep",
        question=f"Which {names} give the {'lowest' if study.better == 'lower' else 'highest'} {study.metric}?",
        abstract=(Findings(tuple(findings(study, points))),),
        sections=(
            _points(study, points),
            _axes(study, points),
            *_curves(study, points),
            _method(study, points),
        ),
        runs=tuple(_cards(study, points)),
    )


def _points(study: Sweep, points: Sequence[Tried]) -> Section:
    columns = (*(axis.name for axis in study.read), study.metric, "behind the best", "told apart")
    rows = [_row(study, each, points[0]) for each in points]
    caption = text(
        "Best first. " + _intervals(study) + ' "Behind the best" is the difference to the first row, paired by seed; a'
        " point is told apart where that interval leaves out 0. The first row was chosen after looking, and no"
        " correction is made for the number of points."
        if study.seeds > 1
        else "Best first. One seed a point: there are no intervals, and no two points can be told apart."
    )
    blocks: list[Block] = [_parallel(study, points), Table(columns, tuple(rows[:SHOWN]), caption)]
    if len(rows) > SHOWN:
        blocks.append(Details(f"The other {len(rows) - SHOWN} points", (Table(columns, tuple(rows[SHOWN:])),)))
    return Section("The points", tuple(blocks))


def _row(study: Sweep, each: Tried, best: Tried) -> tuple[Cell, ...]:
    score = value(each.estimate, each.ids, label=study.metric)
    if each is best:
        return (*each.words, score, None, BEST)
    difference = behind(each, best)
    apart = "yes" if is_apart(study, difference) else "no"
    return (*each.words, score, mean_over(difference, (*each.ids, *best.ids)), apart)


def _intervals(study: Sweep) -> str:
    wide = ", wide since two say little of their spread" if study.seeds == 2 else ""
    return f"95% intervals are Student's t over {study.seeds} seeds{wide}."


def _standing(study: Sweep, each: Tried, best: Tried) -> str:
    """Return in one word how a point stands to the best."""
    if each is best:
        return BEST
    return APART if is_apart(study, behind(each, best)) else ALIKE


def _parallel(study: Sweep, points: Sequence[Tried]) -> Block:
    best = points[0]
    rows = [
        {**_plain_settings(study, each), "score": each.mean, "standing": _standing(study, each, best), "runs": each.ids}
        for each in reversed(points)  # the best is drawn last, above the others
    ]
    axes = [
        ChartAxis(f"axis {n}", axis.name, log=axis.ordered and _in_ratios(axis)) for n, axis in enumerate(study.read)
    ]
    return parallel(
        rows,
        [*axes, ChartAxis("score", study.metric)],
        colour="standing",
        colour_title="the point is",
        runs="runs",
        caption="Each line is one point, from its settings to its score.",
    )


def _plain_settings(study: Sweep, each: Tried) -> dict[str, Any]:
    """Return a point's settings by column: a number where the axis is one of numbers, else words."""
    found: dict[str, Any] = {}
    for n, (axis, setting) in enumerate(zip(study.read, each.point, strict=True)):
        number = axis.number(setting)
        found[f"axis {n}"] = each.words[n] if number is None else number
    return found


def _axes(study: Sweep, points: Sequence[Tried]) -> Section:
    """What each axis does by itself, and the score along those that are numbers."""
    found = effects(study, points)
    if not found:
        return Section("What each axis does", (text("One point a setting: there is nothing to compare."),))
    rows: list[tuple[Cell, ...]] = []
    sign = 1 if study.better == "lower" else -1
    every = tuple(name for each in points for name in each.ids)
    for effect in found:
        for n, level in enumerate(effect.levels):
            best = min(level.tried, key=lambda each: sign * each.mean)
            share = over(100 * effect.share, every, unit="%", digits=0) if n == 0 else None
            rows.append(
                (
                    effect.axis.name if n == 0 else "",
                    level.words,
                    mean_over(level.estimate, level.ids),
                    value(best.estimate, best.ids),
                    len(level.tried),
                    share,
                )
            )
    table = Table(
        ("axis", "setting", f"mean {study.metric}", "best there", "points", "share of variance"),
        tuple(rows),
        caption="The mean over all points at each setting, over the other axes. In a grid its 95% interval is over"
        " seeds; elsewhere over the points, which differ in the other axes too. The last column is what the setting"
        " alone holds of the variance between the points' means; with few points it holds chance too.",
    )
    drawn = [block for n, axis in enumerate(study.read) for block in _along(study, points, n, axis)]
    return Section("What each axis does", (table, *drawn))


def _along(study: Sweep, points: Sequence[Tried], n: int, axis: Axis) -> Iterator[Block]:
    """Draw the score along an axis of numbers: a line for each combination of the others, or points where they are many
    or were drawn."""
    if not axis.ordered or len({each.point[n] for each in points}) < 3:
        return
    rows = []
    for each in points:
        others = [f"{a.name} = {w}" for m, (a, w) in enumerate(zip(study.read, each.words, strict=True)) if m != n]
        estimate = each.estimate
        rows.append(
            {
                "at": axis.number(each.point[n]),
                "score": estimate.mean,
                "low": estimate.low,
                "high": estimate.high,
                "others": ", ".join(others) or "all",
                "run": each.ids[0],
            }
        )
    at = sorted({row["at"] for row in rows})
    across = ChartAxis("at", axis.name, log=_in_ratios(axis), ticks=tuple(at) if len(at) <= MOST_LEVELS else ())
    up = ChartAxis("score", study.metric)
    shared: dict[str, Any] = {"run": "run"} | ({"low": "low", "high": "high"} if study.seeds > 1 else {})
    told = f" {_intervals(study)}" if study.seeds > 1 else ""
    combinations = {row["others"] for row in rows}
    if len(combinations) <= MOST_SERIES and len(combinations) < len(rows):
        yield lines(
            sorted(rows, key=lambda row: (row["others"], row["at"])),
            across,
            up,
            colour="others" if len(combinations) > 1 else "",
            colour_title="the other axes",
            interval="bars",
            caption=f"The score along {axis.name}.{told}",
            height=240,
            **shared,
        )
    else:
        yield scatter(
            rows,
            across,
            up,
            caption=f"The score along {axis.name}, one mark a point.{told}",
            height=220,
            **shared,
        )


def _in_ratios(axis: Axis) -> bool:
    """Whether an axis is drawn with equal ratios: it was asked so, or its numbers spread over a decade."""
    numbers = [float(setting[0]) for setting in axis.ends]
    return axis.log or (min(numbers) > 0 and max(numbers) >= 10 * min(numbers))


def _curves(study: Sweep, points: Sequence[Tried]) -> Iterator[Section]:
    """The learning curves of the best point, the next, the middle one and the worst, where their runs recorded any."""
    chosen = {0: "best", 1: "next", len(points) // 2: "middle", len(points) - 1: "worst"}
    picked = {n: word for n, word in sorted(chosen.items()) if n < len(points)}
    picked[0] = "best"
    logged = [row for n in picked for row in points[n].runs[0].record if "step" in row]
    column = next((name for name in CURVES if any(name in row for row in logged)), "")
    rows = []
    for n, word in picked.items():
        run = points[n].runs[0]
        of_run = [row for row in run.record if column in row and "step" in row]
        rows += [{"step": row["step"], "value": row[column], "point": word, "run": run.id} for row in of_run]
    if len({row["step"] for row in rows}) < 2:
        return
    chart = lines(
        rows,
        ChartAxis("step", "step"),
        ChartAxis("value", column),
        colour="point",
        colour_title="the point is",
        points=False,
        run="run",
        height=200,
        caption=text("From the first seed of each. ", "; ".join(_told(study, points, picked)), "."),
    )
    yield Section("Learning curves", (chart,))


def _told(study: Sweep, points: Sequence[Tried], picked: Mapping[int, str]) -> Iterator[str]:
    """Say which points were picked."""
    return (f"{word.capitalize()}: {study.named(points[n].point)}" for n, word in picked.items())


def _method(study: Sweep, points: Sequence[Tried]) -> Section:
    """How it was done, in a paragraph."""
    kind = label(type(study.of))
    seeds = f"from {study.seeds} seeds each" if study.seeds > 1 else "from one seed each"
    every = tuple(name for each in points for name in each.ids)
    words = text(
        f"The search {study.search.name} tried ",
        over(len(points), every),
        f" points of {kind}, {seeds}; all else is as in the recipe that is varied. Seeds are shared between points,"
        " which is why differences are paired by seed: a seed decides the weights and the order of the data alike for"
        " all. Intervals are over seeds alone, on one validation text.",
    )
    axes = text("Axes: " + "; ".join(study.axes) + f". Score: {study.metric}, {study.better} is better.")
    return Section("How it was done", (words, axes))


def _cards(study: Sweep, points: Sequence[Tried]) -> Iterator[RunCard]:
    """A card for every run, which says its point and seed."""
    told: set[str] = set()
    for each in points:
        for n, run in enumerate(each.runs):
            if run.id not in told:
                told.add(run.id)
                seed = f", seed {n + 1} of {study.seeds}" if study.seeds > 1 else ""
                yield replace(card(run), what=study.named(each.point) + seed)
