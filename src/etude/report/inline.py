"""What stands inside a line of prose or a table cell: strings, numbers with their origin, emphasis, code and links."""

from __future__ import annotations

import math
import numbers
import re
from dataclasses import dataclass, fields
from typing import Any

from etude.core.errors import UsageError

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HREF = re.compile(r"(https?://|mailto:|#)\S+")


@dataclass(frozen=True)
class Node:
    """Base of everything in a report: frozen plain data, checked when it is built. Lists become tuples."""

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, _frozen(getattr(self, field.name)))
        self.check()

    def check(self) -> None:
        """Raise UsageError where the fields contradict each other. Overridden by nodes that can."""


@dataclass(frozen=True)
class Block(Node):
    """Base of what can stand in a section."""


@dataclass(frozen=True)
class Value(Node):
    """A number with its interval, linked to the run that made it.

    Attributes:
        value: the number. Whole numbers are shown whole, with thousands separated.
        low: lower end of the interval, given together with `high`.
        high: upper end of the interval.
        run: id of the run, or runs, it was measured on; empty only for what follows from arithmetic (a uniform loss).
        unit: as in `nats` or `%`.
        digits: figures after the point.
        label: what it is, for the pop-up text; not shown in the line.

    Raises:
        UsageError: not a number, half an interval, an interval upside down, or a run id of another form.
    """

    value: float
    low: float | None = None
    high: float | None = None
    run: str | tuple[str, ...] = ""
    unit: str = ""
    digits: int = 3
    label: str = ""

    def check(self) -> None:
        for name in ("value", "low", "high"):
            if name == "value" or getattr(self, name) is not None:
                _check_number(getattr(self, name), name)
        if (self.low is None) != (self.high is None):
            raise UsageError(f"the interval of {self.value!r} has one end only: give both low and high, or neither")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise UsageError(f"the interval of {self.value!r} is upside down: low {self.low!r}, high {self.high!r}")
        for run in self.runs:
            check_run_id(run)

    @property
    def runs(self) -> tuple[str, ...]:
        """The ids of the runs behind the number."""
        return as_runs(self.run)

    @property
    def shown(self) -> str:
        """The number as written, without unit or interval."""
        return written(self.value, self.digits)

    @property
    def measure(self) -> str:
        """The unit as it follows the number: ` nats`, or `%` without a space."""
        return f" {self.unit}" if self.unit and self.unit != "%" else self.unit

    @property
    def interval(self) -> str:
        """The interval as written, `[1.200, 1.300]`, or empty."""
        if self.low is None or self.high is None:
            return ""
        return f"[{written(self.low, self.digits)}, {written(self.high, self.digits)}]"

    @property
    def ends(self) -> tuple[float, float]:
        """The interval's ends; both are the number itself where there is none."""
        return (self.value if self.low is None else self.low, self.value if self.high is None else self.high)


@dataclass(frozen=True)
class Strong(Node):
    """Words to be noticed."""

    text: str


@dataclass(frozen=True)
class RunRef(Node):
    """A link to a run's card in the appendix.

    Attributes:
        run: the run's id.
        text: what to show; the id where empty.
    """

    run: str
    text: str = ""

    def check(self) -> None:
        check_run_id(self.run)

    @property
    def runs(self) -> tuple[str, ...]:
        return (self.run,)


@dataclass(frozen=True)
class Link(Node):
    """A link out of the report, or to an anchor in it.

    Raises:
        UsageError: the address is not http, https, mailto or `#anchor`.
    """

    text: str
    href: str

    def check(self) -> None:
        if not _HREF.fullmatch(self.href):
            raise UsageError(f"{self.href!r} is not an address: write https://..., mailto:... or #anchor")


@dataclass(frozen=True)
class Code(Block):
    """Text in a fixed-width face: within a line, or as a block of its own."""

    text: str


@dataclass(frozen=True)
class Text(Block):
    """A paragraph. Built most easily with `text("Loss fell to ", Value(1.2, run=id), ".")`.

    Raises:
        UsageError: a part is something else; a bare number most of all, which would have no origin.
    """

    parts: tuple[str | Value | Strong | Code | Link | RunRef, ...]

    def check(self) -> None:
        for part in self.parts:
            if not isinstance(part, str | Value | Strong | Code | Link | RunRef):
                raise UsageError(f"{part!r} cannot stand in a text: wrap a number in Value, anything else in str")


Prose = str | Text
"""A caption or an introduction: plain words, or words with numbers among them."""


def text(*parts: str | Value | Strong | Code | Link | RunRef) -> Text:
    """Return a paragraph of these parts."""
    return Text(parts)


def written(number: float | None, digits: int = 3) -> str:
    """Return a number as text: whole ones whole, very large or small ones with an exponent, None as a dash."""
    if number is None:
        return "–"
    if isinstance(number, int):
        return f"{number:,}"
    if not math.isfinite(number):
        return "not a number" if math.isnan(number) else ("∞" if number > 0 else "-∞")
    size = abs(number)
    if size >= 1e7 or 0 < size < 0.5 * 10.0**-digits:
        mantissa, _, exponent = f"{number:.{max(digits - 1, 1)}e}".partition("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{number + 0.0:,.{digits}f}"  # adding 0 takes the sign of a zero away


def as_runs(run: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return one run id, several, or none as a tuple."""
    return tuple(r for r in ((run,) if isinstance(run, str) else run) if r)


def check_run_id(run: str) -> None:
    """Raise UsageError where a text cannot be a run's id (it becomes an anchor in the page)."""
    if not isinstance(run, str) or not _RUN_ID.fullmatch(run):
        raise UsageError(f"{run!r} is not a run's id: write as in train-3fa2c1")


def _frozen(value: Any) -> Any:
    """Return lists as tuples and NumPy's scalars as Python's, so that equal reports are equal data."""
    if isinstance(value, list | tuple):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, bool | str) or not isinstance(value, numbers.Real):
        return value
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def _check_number(value: Any, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{name} = {value!r} is not a number")
