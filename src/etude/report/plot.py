"""The parts that the chart builders share, in altair: axes, baselines, pop-up texts and the table of the rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import altair as alt

from etude.core.errors import UsageError, unknown
from etude.report.axes import Axis, Columns, Row, Rule
from etude.report.colour import SERIES, SOFT
from etude.report.figures import Chart, Table
from etude.report.inline import Prose, RunRef

TABLE_ROWS = 60
"""A chart of at most so many rows is followed by them as a table; larger ones only offer a file."""

HUGE = 1e9
"""Marks of an axis that reach this far are written as powers of ten."""

_LABEL = 0.065
"""Height of a baseline's words, as a share of the plot's."""


class Plot:
    """The rows of one chart, and its parts. Columns are renamed (x, y, series, ...), so that no name needs escaping.

    Raises:
        UsageError: a column that no row has, no finite row, or a value that a logarithmic axis cannot show.
    """

    def __init__(
        self, rows: Iterable[Row], x: Axis, y: Axis, columns: Columns, rules: Sequence[Rule], sideways: bool = False
    ) -> None:
        named = {"series": columns.series, "x": x.column, "y": y.column, "low": columns.low, "high": columns.high}
        self.columns = {field: column for field, column in {**named, "run": columns.run}.items() if column}
        self.x, self.y, self.rules, self.sideways = x, y, rules, sideways
        self.titles = {"series": columns.series_title or columns.series, "x": x.title, "y": y.title}
        self.titles |= {"low": "from", "high": "to", "run": "run"}
        self.rows = [row for row in map(self._row, rows) if row["y"] is not None and row["x"] is not None]
        if not self.rows:
            raise UsageError(f"no row has a finite {y.column!r} to draw")
        self.series = list(dict.fromkeys(row["series"] for row in self.rows)) if columns.series else []
        self.in_words = sideways or any(isinstance(row["x"], str) for row in self.rows)
        for field, axis in (("x", x), ("y", y)):
            if axis.log and any(not isinstance(row[field], str) and row[field] <= 0 for row in self.rows):
                raise UsageError(
                    f"{axis.column!r} has values that are not above 0; a logarithmic axis cannot show them"
                )
        self.least, self.most = self._extent()

    def base(self) -> alt.Chart:
        """Return the rows with what all marks share: where on the first axis, which colour, which pop-up text."""
        chart = alt.Chart(alt.InlineData(values=[self._drawn(row) for row in self.rows]))
        chart = chart.encode(tooltip=[self._tooltip(field) for field in self.titles if field in self.columns])
        chart = chart.encode(y=alt.Y("x:N", title=self.x.title, sort=None)) if self.sideways else self._across(chart)
        if not self.series:
            return chart.encode(color=alt.value(SERIES[0]))
        legend = alt.Legend(title=self.titles["series"], symbolOpacity=1)
        return chart.encode(color=alt.Color("series:N", scale=alt.Scale(domain=self.series), legend=legend))

    def measured(self, field: str) -> dict[str, Any]:
        """Return the encoding of a measured value: upward, or to the right in a sideways chart."""
        if self.sideways:
            axis = alt.Axis(grid=True, domain=False, tickCount=6)
            return {"x": alt.X(f"{field}:Q", title=self.y.title, axis=axis, scale=alt.Scale(zero=True))}
        if self.y.log:
            scale = alt.Scale(type="log", domain=[self.least / 1.1, self.most * 1.1], nice=False)
        else:
            margin = 0.06 * (self.most - self.least or abs(self.most) or 1.0)
            # A scale that starts at nothing starts there exactly.
            scale = alt.Scale(
                domain=[self.least - margin * (self.least != 0), self.most + margin], nice=True, zero=False
            )
        axis = alt.Axis(values=list(self.y.ticks)) if self.y.ticks else alt.Axis()
        return {"y": alt.Y(f"{field}:Q", title=self.y.title, scale=scale, axis=axis)}

    def points(self, base: alt.Chart) -> alt.Chart:
        """Return a mark for each row, its shape by series too, for whoever cannot tell the colours apart."""
        marks = base.mark_point(opacity=1).encode(**self.measured("y"))
        return marks.encode(shape=alt.Shape("series:N", scale=alt.Scale(domain=self.series))) if self.series else marks

    def fitted(self, rows: Iterable[Row]) -> alt.Chart:
        """Return a line a series through rows of its own, cut at the plot's edges: what was fitted to the points. It is
        asked for before `base`, as its series join those of the points."""
        taken = {field: self.columns[field] for field in ("series", "x", "y") if field in self.columns}
        held = [{field: _plain(row[column]) for field, column in taken.items()} for row in rows]
        named = [{**row, "series": str(row["series"])} if "series" in row else row for row in held]
        if self.series:
            self.series = list(dict.fromkeys((*self.series, *(row["series"] for row in named))))
        lines = self._across(alt.Chart(alt.InlineData(values=named))).encode(**self.measured("y"))
        colour = alt.Color("series:N", scale=alt.Scale(domain=self.series)) if self.series else alt.value(SERIES[0])
        return lines.mark_line(clip=True, opacity=0.7).encode(color=colour)

    def baselines(self) -> list[alt.Chart]:
        """Return each baseline as a dashed line and its words, where these cover the least."""
        layers: list[alt.Chart] = []
        taken: list[tuple[bool, float]] = []
        for n, rule in enumerate(sorted(self.rules, key=lambda rule: -rule.value)):
            base = alt.Chart(alt.InlineData(values=[{"level": rule.value, "words": rule.label}]))
            along: dict[str, Any] = {"x": alt.X("level:Q")} if self.sideways else {"y": alt.Y("level:Q")}
            line = base.mark_rule(strokeDash=[5, 4], color=SOFT).encode(**along)
            words = base.encode(**along, text=alt.Text("words:N"))
            if self.sideways:
                words = words.mark_text(baseline="bottom", dy=-4, fontSize=12, color=SOFT).encode(y=alt.value(0))
            else:
                right, above = self._clearest(rule, taken)
                side: dict[str, Any] = {"align": "right" if right else "left", "baseline": "bottom" if above else "top"}
                words = words.mark_text(**side, dy=-4 if above else 5, fontSize=12, color=SOFT)
                words = words.encode(x=alt.value("width" if right else 0))
            layers += [line.properties(name=f"baseline_{n}_line"), words.properties(name=f"baseline_{n}_words")]
        return layers

    def chart(self, layers: Sequence[Any], kind: str, caption: Prose, words: str, height: int) -> Chart:
        """Return the finished block."""
        spec = alt.layer(*layers).properties(height=height).to_dict()
        spec.pop("config", None)
        origins = [*(row.get("run") for row in self.rows), *(rule.run for rule in self.rules)]
        told = f"{kind}: {self.y.title} against {self.x.title}"
        told += f", for {', '.join(self.series)}." if self.series else "."
        return Chart(spec, caption, words or told, self._table(), tuple(dict.fromkeys(run for run in origins if run)))

    def _row(self, row: Row) -> dict[str, Any]:
        missing = next((column for column in self.columns.values() if column not in row), None)
        if missing is not None:
            raise unknown("column", missing, row)
        kept = {field: _plain(row[column]) for field, column in self.columns.items()}
        return {**kept, "series": str(kept["series"])} if "series" in kept else kept

    def _extent(self) -> tuple[float, float]:
        shown = [row[f] for row in self.rows for f in ("y", "low", "high") if row.get(f) is not None]
        shown += [rule.value for rule in self.rules]
        known = [value for value in shown if value > 0] if self.y.log else shown
        return min(known), max(known)

    def _drawn(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a row as it is drawn: an interval that reaches below a logarithmic axis ends at its foot."""
        if self.y.log and row.get("low") is not None:
            return {**row, "low": max(row["low"], self.least / 1.1)}
        return row

    def _across(self, chart: alt.Chart) -> alt.Chart:
        if self.in_words:
            return chart.encode(x=alt.X("x:N", title=self.x.title, sort=None, axis=alt.Axis(labelAngle=0)))
        axis = alt.Axis(tickCount=8, labelOverlap=True)
        if self.x.ticks:
            huge = max(self.x.ticks) >= HUGE  # left alone, 200,000,000,000 stands beside 1e+12
            axis = alt.Axis(values=list(self.x.ticks), format="~g" if huge else alt.Undefined)
        scale = (
            alt.Scale(type="log", nice=False, padding=10)
            if self.x.log
            else alt.Scale(zero=False, nice=False, padding=8)
        )
        return chart.encode(x=alt.X("x:Q", title=self.x.title, axis=axis, scale=scale))

    def _tooltip(self, field: str) -> alt.Tooltip:
        if field in ("series", "run") or (field == "x" and self.in_words):
            return alt.Tooltip(f"{field}:N", title=self.titles[field])
        return alt.Tooltip(f"{field}:Q", title=self.titles[field], format="~g" if field == "x" else ".4~g")

    def _clearest(self, rule: Rule, taken: list[tuple[bool, float]]) -> tuple[bool, bool]:
        """Return whether a baseline's words stand best at the right, and above: far from points and other words.

        Heights and places are shares of the plot; only the third of it that the words may cover is looked at.
        """
        at = self._height(rule.value)
        places = [(right, above) for above in (True, False) for right in (True, False)]

        def room(place: tuple[bool, bool]) -> float:
            middle = at + _LABEL * (0.6 if place[1] else -0.6)
            near = [height for share, height in self._places() if (share > 0.67 if place[0] else share < 0.33)]
            near += [self._height(other.value) for other in self.rules if other is not rule]
            near += [height for right, height in taken if right == place[0]]
            return min((abs(middle - height) for height in near), default=1.0)

        # The first place with room enough is taken, so that words stay at the right and above where they can.
        best = next((place for place in places if room(place) > _LABEL), None) or max(places, key=room)
        taken.append((best[0], at + _LABEL * (0.6 if best[1] else -0.6)))
        return best

    def _places(self) -> list[tuple[float, float]]:
        """Return where each row stands, as shares of the plot's width and height."""
        order = list(dict.fromkeys(row["x"] for row in self.rows))
        across = [order.index(row["x"]) if self.in_words else _scaled(row["x"], self.x.log) for row in self.rows]
        reach = max(across) - min(across) or 1.0
        heights = (self._height(row["y"]) for row in self.rows)
        return [((a - min(across)) / reach, height) for a, height in zip(across, heights, strict=True)]

    def _height(self, value: float) -> float:
        low, high, at = (_scaled(v, self.y.log) for v in (self.least, self.most, value))
        return (at - low) / (high - low or 1.0)

    def _table(self) -> Table | None:
        if len(self.rows) > TABLE_ROWS:
            return None
        kept = [field for field in self.titles if field in self.columns]
        rows = [tuple(RunRef(row[f]) if f == "run" and row[f] else row[f] for f in kept) for row in self.rows]
        return Table(tuple(self.titles[field] for field in kept), tuple(rows))


def _scaled(value: float, log: bool) -> float:
    return math.log(value) if log and value > 0 else value


def _plain(value: Any) -> Any:
    """Return a row's entry as JSON data: seven significant figures, None for what is not finite."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value)
    number = float(value)
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() and abs(number) < 2**53 else float(f"{number:.7g}")
