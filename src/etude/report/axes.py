"""What a chart is told besides its rows: axes with titles, and baselines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from etude.core.errors import UsageError

Row = Mapping[str, Any]
"""One point of a chart, by column."""


@dataclass(frozen=True)
class Axis:
    """One axis of a chart.

    Attributes:
        column: which column of the rows it shows.
        title: what it measures, with the unit in brackets: `validation loss (nats per token)`.
        log: whether equal steps are equal ratios.
        ticks: where to put ticks; left to the chart where empty.

    Raises:
        UsageError: there is no title.
    """

    column: str
    title: str
    log: bool = False
    ticks: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.title.strip():
            raise UsageError(f"the axis of {self.column!r} has no title: say what it measures, with its unit")


@dataclass(frozen=True)
class Rule:
    """A level to compare with, drawn across the chart: a baseline.

    Attributes:
        label: the words on the line.
        value: where it stands on the axis of measured values.
        run: id of the run it comes from, where it was measured.
    """

    label: str
    value: float
    run: str = ""


@dataclass(frozen=True)
class Columns:
    """Which columns of the rows hold what, besides those of the axes. Empty where there is none.

    Raises:
        UsageError: half an interval.
    """

    series: str = ""
    series_title: str = ""
    low: str = ""
    high: str = ""
    run: str = ""

    def __post_init__(self) -> None:
        if bool(self.low) != bool(self.high):
            raise UsageError(f"an interval needs both ends: low = {self.low!r}, high = {self.high!r}")
