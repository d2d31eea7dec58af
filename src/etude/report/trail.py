"""A record on its way into a tracker: every value once, also when it is started again or the record begins anew."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from etude.core.follow import Follower
from etude.report.trackers.base import Points, Sink, Tracker

SAME = 1e-6
"""Relative difference below which two values are one: trackers keep single precision."""


class Trail:
    """One run's way into one tracker. It is opened there with its first value, so that a run without a record is not.

    Args:
        follower: the run's record.
        tracker: where to.
    """

    def __init__(self, follower: Follower, tracker: Tracker) -> None:
        self.follower, self.tracker = follower, tracker
        self.written = 0
        self._sink: Sink | None = None
        self._held: Points = {}

    def go_on(self) -> bool:
        """Write what is new. Return whether more may come."""
        is_done = self.follower.is_done  # asked first: what is done gets no row after it
        rows = self.follower.rows()
        for step, values in points(rows).items():
            self._take(step, values)
        return not is_done

    def close(self) -> None:
        """Let the tracker write out what it has."""
        if self._sink is not None:
            self._sink.close(done=self.follower.is_done)
            self._sink = None

    def _take(self, step: int, values: dict[str, float]) -> None:
        """Write the values of a step that the tracker has not."""
        if not values:
            return
        if self._sink is None:
            self._sink = self.tracker.open(self.follower.run, self.follower.recipe)
            self._held = self._sink.held()
        held = self._held.get(step, {})
        if any(not _same(value, held.get(name, value)) for name, value in values.items() if not _is_clock(name)):
            self._sink.rewind(step)
            self._held = {at: kept for at, kept in self._held.items() if at < step}
        held = self._held.setdefault(step, {})
        new = {name: value for name, value in values.items() if name not in held}
        if new:
            self._sink.write(step, new)
            self.written += len(new)
            held |= new


def points(rows: Iterable[tuple[int, Mapping[str, Any]]]) -> Points:
    """Return rows' numbers by step; one that names no step stands at its place in the record."""
    found: Points = {}
    for place, row in rows:
        step = row.get("step")
        at = step if isinstance(step, int) and not isinstance(step, bool) else None
        values = {key: value for key, value in row.items() if key != "step" or at is None}
        found.setdefault(place if at is None else at, {}).update(numbers(values))
    return found


def numbers(row: Mapping[str, Any], name: str = "") -> Iterator[tuple[str, float]]:
    """Yield the finite numbers of a row, those inside a part of it as `part/name`."""
    for key, value in row.items():
        if isinstance(value, Mapping):
            yield from numbers(value, f"{name}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            yield f"{name}{key}", float(value)


def _is_clock(name: str) -> bool:
    """Whether a value depends on the clock, so that work that goes on after a kill logs another one for a step."""
    return name.startswith("timing/")


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=SAME, abs_tol=1e-30)
