"""The axes of a sweep: which field takes which values, as a line of text that a person writes.

batch=16,32,64                              the values one by one
schedule.peak=1e-4..1e-2:log:5              five, at equal ratios
model.dropout=0..0.3:4                      four, at equal steps
model.layers=1..4                           every whole number
schedule.peak=1e-4..1e-2:log                any between, for searches that draw
optimiser=adamw,muon                        members of a family
model.width/model.heads=64/2,128/4          fields that go together
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from etude.core import values
from etude.core.errors import UsageError
from etude.core.spec import Spec, label
from etude.core.within import Path, Place, dotted, place

Setting = tuple[Any, ...]
"""What one axis gives to its fields, one value for each."""

Point = tuple[Setting, ...]
"""One setting for each axis."""

MOST_WHOLE = 64
"""A range of more whole numbers than this is not spelled out unless it says how many."""

NEAR = 0.05
"""The share of a range at either end of it that counts as its edge."""


@dataclass(frozen=True)
class Axis:
    """One axis of a sweep.

    Attributes:
        paths: of the fields that it sets; several go together.
        settings: what it takes, in order; none for a range that says not how many.
        low: lower end of a range.
        high: upper end of a range.
        log: whether equal steps in the range are equal ratios.
        whole: whether its numbers are whole.
        ordered: whether its settings are single numbers.
    """

    paths: tuple[Path, ...]
    settings: tuple[Setting, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False
    ordered: bool = False

    @property
    def name(self) -> str:
        return "/".join(map(dotted, self.paths))

    @property
    def ends(self) -> tuple[Setting, ...]:
        """The settings that show whether the recipe takes the axis: all of a list, the ends of a range."""
        return self.settings or tuple((self._number(end),) for end in (self.low, self.high))

    def spelled(self) -> tuple[Setting, ...]:
        """Return every setting, for a grid.

        Raises:
            UsageError: it is a range that says not how many.
        """
        if self.settings:
            return self.settings
        if self.whole and not self.log and self.high - self.low < MOST_WHOLE:
            return tuple((n,) for n in range(int(self.low), int(self.high) + 1))
        raise UsageError(
            f"a grid needs to know how many values of {self.name} to take: write"
            f" {self.name}={_number_text(self.low)}..{_number_text(self.high)}{':log' * self.log}:5,"
            f" or --search random, which draws from the range"
        )

    def at(self, share: float) -> Setting:
        """Return the setting at a share of the way, from 0 to just under 1: uniform shares give uniform settings."""
        if self.settings:
            return self.settings[min(int(share * len(self.settings)), len(self.settings) - 1)]
        low, high = self.low, self.high + (1 if self.whole else 0)
        number = math.exp(_mixed(math.log(low), math.log(high), share)) if self.log else _mixed(low, high, share)
        return self.near(math.floor(number) if self.whole else number)

    def near(self, number: float) -> Setting:
        """Return a number of the range in four figures, so that tables and commands can be read."""
        neat = number if self.whole else float(f"{number:.4g}")
        return (self._number(min(max(neat, self.low), self.high)),)

    def count(self) -> float:
        """Return how many settings there are; infinite where numbers are not whole."""
        if self.settings:
            return len(self.settings)
        return self.high - self.low + 1 if self.whole else math.inf

    def written(self, setting: Setting) -> str:
        """Return a setting as a table shows it."""
        return "/".join(self.words(setting))

    def words(self, setting: Setting) -> tuple[str, ...]:
        """Return a setting's values as texts, one for each path."""
        return tuple(map(_text, setting))

    def number(self, setting: Setting) -> float | None:
        """Return where a setting stands on a scale of numbers, or None where it has no place there."""
        return float(setting[0]) if self.ordered else None

    def edge(self, setting: Setting) -> str:
        """Return `lowest` or `highest` where a setting is the last of three or more or near the end of a range."""
        here = self.number(setting)
        if here is None:
            return ""
        if not self.settings:
            scale = math.log if self.log else float
            share = (scale(here) - scale(self.low)) / (scale(self.high) - scale(self.low))
            return "lowest" if share < NEAR else "highest" if share > 1 - NEAR else ""
        numbers = sorted(self._numbers())
        return "" if len(numbers) < 3 else {numbers[0]: "lowest", numbers[-1]: "highest"}.get(here, "")

    def beyond(self, edge: str) -> tuple[Setting, ...]:
        """Return settings past an edge, any of which shows that the field goes on: a step by a difference, one by a
        ratio where all numbers are above 0, and of whole numbers the next."""
        numbers = sorted(self._numbers()) if self.settings else [self.low, self.high]
        last, before = (numbers[0], numbers[1]) if edge == "lowest" else (numbers[-1], numbers[-2])
        steps = [2 * last - before, *([last * last / before] if min(numbers) > 0 else [])]
        if self.whole:
            steps = [last + (1 if edge == "highest" else -1), *map(round, steps)]
        return tuple((self._number(step),) for step in dict.fromkeys(steps) if step != last)

    def _numbers(self) -> list[float]:
        return [float(setting[0]) for setting in self.settings]

    def _number(self, number: float) -> int | float:
        return int(number) if self.whole else float(number)


def joined(pieces: Iterable[str]) -> tuple[str, ...]:
    """Return axes, one text each, from pieces that a command line may have cut at their commas."""
    found: list[str] = []
    for piece in pieces:
        clean = re.sub(r"\s*([=,])\s*", r"\1", piece.strip())
        if "=" in clean or not found:
            found.append(clean)
        else:
            found[-1] += f",{clean}"
    return tuple(found)


def read_axes(texts: Sequence[str], of: Spec) -> tuple[Axis, ...]:
    """Return axes from their texts, each value read as its field's type says.

    Raises:
        UsageError: there is no such field, a value is not of its type, or a field or value is named twice.
    """
    if not texts:
        raise UsageError("a sweep needs an axis: --axes 'schedule.peak=1e-4..1e-2:log:5' 'batch=16,32'")
    found = tuple(_read(text, of) for text in texts)
    paths = [path for axis in found for path in axis.paths]
    twice = next((path for path in paths if paths.count(path) > 1), None)
    if twice:
        raise UsageError(f"{dotted(twice)} is on two axes; name each field once")
    return found


def _read(text: str, of: Spec) -> Axis:
    name, equals, rest = text.partition("=")
    if not equals or not rest:
        raise UsageError(f"the axis {text!r} has no values: write {name or 'batch'}=16,32 or {name or 'batch'}=16..64")
    fields = tuple(place(of, part) for part in name.split("/"))
    for field in fields:
        if field.is_cosmetic:
            raise UsageError(f"{field.name} cannot change the outcome of {label(type(of))}: there is nothing to sweep")
    only = fields[0]
    if len(fields) == 1 and only.is_number and ".." in rest:
        return _read_range(only, rest, text)
    settings = tuple(_read_setting(word, fields, text) for word in rest.split(",") if word)
    _once(settings, text)
    return Axis(
        tuple(field.path for field in fields),
        settings,
        whole=len(fields) == 1 and only.is_whole,
        ordered=len(fields) == 1 and all(_is_number(setting[0]) for setting in settings),
    )


def _read_setting(word: str, fields: Sequence[Place], text: str) -> Setting:
    words = word.split("/") if len(fields) > 1 else [word]
    if len(words) != len(fields):
        raise UsageError(f"{word!r} in the axis {text!r} gives {len(words)} values for {len(fields)} fields")
    return tuple(field.read(each) for field, each in zip(fields, words, strict=True))


def _read_range(field: Place, rest: str, text: str) -> Axis:
    """Read `low..high`, then `:log` and `:count` in any order."""
    span, *marks = rest.split(":")
    low, high = (_end(field, word) for word in span.split("..", 1))
    counts = [mark for mark in marks if mark != "log"]
    if len(counts) > 1 or not all(count.isdigit() and int(count) > 1 for count in counts):
        raise UsageError(
            f"{':'.join(marks)!r} in the axis {text!r} is not understood: after low..high may stand :log,"
            " and a number of values of 2 or more"
        )
    log = "log" in marks
    if not low < high:
        raise UsageError(f"the range of the axis {text!r} is empty: the lower end comes first")
    if log and low <= 0:
        raise UsageError(f"the axis {text!r} starts at {_number_text(low)}, and equal ratios need a start above 0")
    axis = Axis((field.path,), (), low, high, log, field.is_whole, ordered=True)
    if not counts:
        return axis
    numbers = (np.geomspace if log else np.linspace)(low, high, int(counts[0]))
    settings = tuple(axis.near(round(n) if axis.whole else float(n)) for n in numbers)
    return Axis(axis.paths, tuple(dict.fromkeys(settings)), low, high, log, axis.whole, ordered=True)


def _end(field: Place, word: str) -> float:
    found = field.read(word)
    if found is None:
        raise UsageError(f"{field.name} {word!r} is no end of a range: give a number")
    return float(found)


def _once(settings: Sequence[Setting], text: str) -> None:
    twice = next((setting for setting in settings if settings.count(setting) > 1), None)
    if twice is not None:
        raise UsageError(f"the axis {text!r} names {'/'.join(map(_text, twice))} twice; name each value once")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _mixed(low: float, high: float, share: float) -> float:
    return low + (high - low) * share


def _text(value: Any) -> str:
    """Return a value in few characters."""
    if isinstance(value, Spec):
        return label(type(value))
    return _number_text(value) if isinstance(value, float) else values.written(value)


def _number_text(number: float) -> str:
    return f"{number:.4g}"
