"""Parallel coordinates in altair: one upright scale for each column, and a line across them for each row."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import altair as alt

from etude.core.errors import UsageError, unknown
from etude.report.axes import Axis, Row
from etude.report.colour import SERIES, SOFT
from etude.report.figures import Cell, Chart, Table
from etude.report.inline import Prose, RunRef, as_runs

TABLE_ROWS = 60
TICKS = 6
"""A scale of more values than this is marked at its ends and in the middle."""


class Upright:
    """One scale: where each of its values stands, from 0 at the foot to 1 at the top.

    Numbers stand by size; words evenly, in the order in which they first come, from the top.

    Raises:
        UsageError: a row has no such column, or a value has no place on a logarithmic scale.
    """

    def __init__(self, axis: Axis, rows: Sequence[Row]) -> None:
        missing = next((row for row in rows if axis.column not in row), None)
        if missing is not None:
            raise unknown("column", axis.column, missing)
        self.axis, self.values = axis, [row[axis.column] for row in rows]
        self.in_words = any(isinstance(value, str) for value in self.values)
        if self.in_words:
            self.places: list[Any] = list(dict.fromkeys(map(str, self.values)))
            return
        if axis.log and min(self.values) <= 0:
            raise UsageError(f"{axis.column!r} has values that are not above 0; a logarithmic axis cannot show them")
        self.low, self.high = self._scaled(min(self.values)), self._scaled(max(self.values))

    def at(self, value: Any) -> float:
        """Return where a value stands."""
        if self.in_words:
            return 1 - self.places.index(str(value)) / max(1, len(self.places) - 1) if len(self.places) > 1 else 0.5
        return (self._scaled(value) - self.low) / (self.high - self.low) if self.high > self.low else 0.5

    def ticks(self) -> list[tuple[float, str]]:
        """Return the marks beside the scale: where each stands, and its words."""
        if self.in_words:
            return [(self.at(value), _cut(value)) for value in self.places]
        distinct = sorted(set(self.values))
        if len(distinct) <= TICKS and len(distinct) < len(self.values):  # settings that come again, not measurements
            return _apart([(self.at(value), f"{value:.4g}") for value in distinct])
        middle = 0.5 * (self.low + self.high)
        shown = (self.low, middle, self.high)
        return [
            (at, f"{math.exp(n) if self.axis.log else n:.3g}") for at, n in zip((0.0, 0.5, 1.0), shown, strict=True)
        ]

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.axis.log else float(value)


def chart(
    rows: Iterable[Row],
    axes: Sequence[Axis],
    caption: Prose,
    colour: str,
    colour_title: str,
    runs: str,
    words: str,
    height: int,
) -> Chart:
    """Return the finished block; see `etude.report.charts.parallel`."""
    kept = list(rows)
    if not kept:
        raise UsageError("there is no row to draw")
    if len(axes) < 2:
        raise UsageError("parallel coordinates need two axes or more: draw one with lines or scatter")
    for column in filter(None, (colour, runs)):
        if column not in kept[0]:
            raise unknown("column", column, kept[0])
    uprights = [Upright(axis, kept) for axis in axes]
    series = list(dict.fromkeys(str(row[colour]) for row in reversed(kept))) if colour else []
    spec = alt.layer(*_frame(uprights), *_lines(kept, uprights, colour, colour_title, series))
    spec = spec.properties(height=height).to_dict()
    spec.pop("config", None)
    origins = tuple(dict.fromkeys(run for row in kept for run in as_runs(row[runs]))) if runs else ()
    told = f"Parallel coordinates: a line for each of {len(kept)} rows across {', '.join(a.title for a in axes)}."
    return Chart(spec, caption, words or told, _table(kept, axes, colour, colour_title, runs), origins)


def _frame(uprights: Sequence[Upright]) -> list[alt.Chart]:
    """Return the scales themselves, and the words beside them."""
    titles = [each.axis.title for each in uprights]
    stems = [{"axis": title, "foot": 0.0, "top": 1.0} for title in titles]
    marks = [{"axis": each.axis.title, "at": at, "words": words} for each in uprights for at, words in each.ticks()]
    # The names `baseline_...` become classes, by which the page's dark scheme colours lines and words.
    stem = alt.Chart(alt.InlineData(values=stems)).mark_rule(color=SOFT, strokeWidth=1)
    stem = stem.encode(x=_across(titles), y=_up("foot"), y2="top:Q").properties(name="baseline_stems")
    tick = alt.Chart(alt.InlineData(values=marks))
    words = tick.mark_text(align="right", dx=-7, fontSize=11.5, color=SOFT)
    words = words.encode(x=_across(titles), y=_up("at"), text="words:N").properties(name="baseline_words")
    return [stem, words]


def _lines(
    rows: Sequence[Row], uprights: Sequence[Upright], colour: str, title: str, series: Sequence[str]
) -> list[alt.Chart]:
    """Return a line for each row, and a mark where it crosses each scale, whose shape tells the series too."""
    titles = [each.axis.title for each in uprights]
    crossings = []
    for n, row in enumerate(rows):
        said = {each.axis.title: _shown(row[each.axis.column]) for each in uprights}
        named = {"series": str(row[colour])} if colour else {}
        crossings += [
            {"line": n, "axis": each.axis.title, "at": each.at(row[each.axis.column]), **named, "row": _sentence(said)}
            for each in uprights
        ]
    base = alt.Chart(alt.InlineData(values=crossings)).encode(
        x=_across(titles), y=_up("at"), detail="line:N", tooltip=[alt.Tooltip("row:N", title="point")]
    )
    if not series:
        base = base.encode(color=alt.value(SERIES[0]))
        return [base.mark_line(opacity=0.75), base.mark_point(opacity=1, size=28)]
    legend = alt.Legend(title=title or colour, symbolOpacity=1, symbolStrokeWidth=0)
    base = base.encode(color=alt.Color("series:N", scale=alt.Scale(domain=list(series)), legend=legend))
    dashes = alt.StrokeDash("series:N", scale=alt.Scale(domain=list(series), range=[[1, 0], [6, 3], [2, 3]]))
    marks = base.mark_point(opacity=1, size=28).encode(
        shape=alt.Shape("series:N", scale=alt.Scale(domain=list(series)))
    )
    return [base.mark_line(opacity=0.75).encode(strokeDash=dashes), marks]


def _across(titles: Sequence[str]) -> alt.X:
    axis = alt.Axis(labelAngle=0, domain=False, ticks=False, labelPadding=12, labelLimit=180)
    return alt.X("axis:N", sort=list(titles), title=None, axis=axis, scale=alt.Scale(type="point", padding=0.4))


def _up(field: str) -> alt.Y:
    return alt.Y(f"{field}:Q", axis=None, scale=alt.Scale(domain=[-0.04, 1.04], nice=False))


def _apart(marks: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """Return the marks that do not stand on each other, the first and last always."""
    kept = marks[:1]
    for mark in marks[1:]:
        if mark[0] - kept[-1][0] >= 0.055:
            kept.append(mark)
        elif mark is marks[-1] and len(kept) > 1:
            kept[-1] = mark
    return kept


def _table(rows: Sequence[Row], axes: Sequence[Axis], colour: str, title: str, runs: str) -> Table | None:
    if len(rows) > TABLE_ROWS:
        return None
    columns = [axis.title for axis in axes] + [title or colour] * bool(colour) + ["run"] * bool(runs)
    cells: list[tuple[Cell, ...]] = []
    for row in rows:
        extra = [str(row[colour])] if colour else []
        first = as_runs(row[runs])[:1] if runs else ()
        cells.append(
            (*(row[axis.column] for axis in axes), *extra, *([RunRef(first[0]) if first else None] * bool(runs)))
        )
    return Table(tuple(columns), tuple(cells))


def _sentence(said: dict[str, str]) -> str:
    return ", ".join(f"{name} = {shown}" for name, shown in said.items())


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def _cut(words: Any) -> str:
    text = str(words)
    return text if len(text) <= 18 else text[:17] + "…"
