"""Tables and pictures: what shows many numbers at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from etude.core.errors import UsageError, unknown
from etude.report.inline import Block, Code, Link, Node, Prose, RunRef, Text, Value

Cell = str | int | float | None | Value | Code | Link | RunRef | Text
"""What a table's cell holds; None is shown as a dash."""


@dataclass(frozen=True)
class Table(Block):
    """Rows under named columns. A column of numbers is set flush right.

    Attributes:
        columns: the headings.
        rows: as many cells each as there are columns.
        caption: what the table shows.
        lowest: columns in which the lowest number is marked, with every one whose interval overlaps it.
        highest: the same for the highest.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: Prose = ""
    lowest: tuple[str, ...] = ()
    highest: tuple[str, ...] = ()

    def check(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise UsageError(f"a row has {len(row)} cells and the table {len(self.columns)} columns: {row!r}")
        for name in self.lowest + self.highest:
            if name not in self.columns:
                raise unknown("column", name, self.columns)

    def is_numeric(self, column: int) -> bool:
        """Whether every cell of a column that holds anything holds a number."""
        cells = [row[column] for row in self.rows if row[column] is not None]
        return bool(cells) and all(
            isinstance(cell, int | float | Value) and not isinstance(cell, bool) for cell in cells
        )

    def best(self) -> set[tuple[int, int]]:
        """Return the (row, column) of each cell that is marked as best."""
        marked: set[tuple[int, int]] = set()
        for name in self.lowest + self.highest:
            column = self.columns.index(name)
            held = {i: _as_value(row[column]) for i, row in enumerate(self.rows)}
            known = {i: v for i, v in held.items() if v is not None and v.value == v.value}
            if known:
                choose = min if name in self.lowest else max
                low, high = choose(known.values(), key=lambda v: v.value).ends
                marked |= {(i, column) for i, v in known.items() if v.ends[0] <= high and low <= v.ends[1]}
        return marked


@dataclass(frozen=True)
class Chart(Block):
    """A Vega-Lite chart, most easily made with `etude.report.charts`.

    Attributes:
        spec: Vega-Lite as JSON data, its rows inline, without a theme.
        caption: what the chart shows.
        alt: the same for a person who cannot see it.
        data: the rows as a table.
        runs: ids of the runs behind it.

    Raises:
        UsageError: no `alt`, or the chart would load something from an address.
    """

    spec: dict[str, Any]
    caption: Prose
    alt: str
    data: Table | None = None
    runs: tuple[str, ...] = ()

    def check(self) -> None:
        if not self.alt.strip():
            raise UsageError("a chart has no alt text: say in one sentence what it shows")
        address = _address_in(self.spec)
        if address is not None:
            raise UsageError(f"a chart would load {address!r}: a report loads nothing, put the rows into the chart")


@dataclass(frozen=True, eq=False)
class Heatmap(Block):
    """A matrix as shades, with its numbers where there is room.

    Attributes:
        values: [rows, columns]; NaN is left blank.
        rows: the rows' labels, top first.
        columns: the columns' labels.
        caption: what it shows.
        label: what a value is, with its unit.
        row_title: what the rows are.
        column_title: what the columns are.
        digits: figures after the point.
        signed: shade by distance from zero, in two colours.
        runs: ids of the runs behind it.
    """

    values: np.ndarray
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    caption: Prose
    label: str
    row_title: str = ""
    column_title: str = ""
    digits: int = 2
    signed: bool = False
    runs: tuple[str, ...] = ()

    def check(self) -> None:
        values = np.array(self.values, dtype=np.float64)
        if values.shape != (len(self.rows), len(self.columns)) or not values.size:
            found = "x".join(map(str, values.shape))
            raise UsageError(f"a heatmap of {found} has {len(self.rows)} row and {len(self.columns)} column labels")
        values.setflags(write=False)
        object.__setattr__(self, "values", values)


@dataclass(frozen=True, eq=False)
class Attention(Block):
    """Attention patterns over one text: choose a layer and head, then a token.

    Attributes:
        tokens: T tokens in printable form.
        patterns: [L, H, T, T], the weight that each query (third axis) gives to each key (fourth).
        caption: which text, which model.
        layers: the layers' names; L0, L1, ... where empty.
        runs: ids of the runs behind it.
    """

    tokens: tuple[str, ...]
    patterns: np.ndarray
    caption: Prose
    layers: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()

    def check(self) -> None:
        patterns = np.array(self.patterns, dtype=np.float32)
        side = len(self.tokens)
        if patterns.ndim != 4 or patterns.shape[2:] != (side, side) or not patterns.size:
            raise UsageError(f"patterns of shape {patterns.shape} do not fit {side} tokens: [L, H, {side}, {side}]")
        if not (np.isfinite(patterns).all() and patterns.min() >= -1e-3 and patterns.max() <= 1 + 1e-3):
            raise UsageError("attention patterns are not between 0 and 1: give them after the softmax")
        if self.layers and len(self.layers) != len(patterns):
            raise UsageError(f"{len(self.layers)} layer names for {len(patterns)} layers")
        patterns.setflags(write=False)
        object.__setattr__(self, "patterns", patterns)
        object.__setattr__(self, "layers", self.layers or tuple(f"L{i}" for i in range(len(patterns))))


@dataclass(frozen=True)
class Context(Node):
    """One token where it stood, and what was measured there.

    Attributes:
        before: the tokens before it, in printable form.
        token: the token itself.
        after: the tokens after it.
        value: what was measured at the token.
    """

    before: tuple[str, ...]
    token: str
    after: tuple[str, ...]
    value: Value


@dataclass(frozen=True)
class Contexts(Block):
    """Where in the text a latent, a neuron or a head was strongest, as lines aligned at the token.

    Attributes:
        rows: strongest first.
        caption: of what.
        label: what the value is.
    """

    rows: tuple[Context, ...]
    caption: Prose
    label: str = "value"


def _as_value(cell: Cell) -> Value | None:
    if isinstance(cell, Value):
        return cell
    return Value(cell) if isinstance(cell, int | float) and not isinstance(cell, bool) else None


def _address_in(data: Any) -> str | None:
    """Return the first address that a Vega-Lite spec would load, if any: every loader reads it from a key `url`."""
    if isinstance(data, dict):
        if isinstance(data.get("url"), str):
            return data["url"]
        # Rows may have a column called url; they are data, and are not looked into.
        return next((a for k, v in data.items() if k not in ("values", "datasets") and (a := _address_in(v))), None)
    if isinstance(data, list | tuple):
        return next((a for v in data if (a := _address_in(v))), None)
    return None
