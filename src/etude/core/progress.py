"""Watching runs being made: how far each is, at what rate, and when it will be done.

Drafts write their progress to a file; whoever watches reads it. So work in other processes shows as well as our own.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from etude.core.recipe import Recipe

LONG = 2.0
"""Seconds after which work says how far it is."""


class Scheduled(Protocol):
    """What a watch looks at."""

    active: dict[str, Recipe]
    made: int

    @property
    def known(self) -> int: ...


class Watch:
    """Shows progress on standard error while its block runs: live where that is a terminal, else a line now and then.

    Args:
        root: the folder of runs.
        scheduled: what is being made.
        quiet: show nothing.
    """

    def __init__(self, root: Path, scheduled: Scheduled, *, quiet: bool = False) -> None:
        self.root, self.scheduled, self.quiet = root, scheduled, quiet
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._show, name="progress", daemon=True)
        self._live = sys.stderr.isatty()
        self._lines = 0
        self._writing = threading.Lock()

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def say(self, text: str) -> None:
        """Print one line without disturbing the display."""
        if not self.quiet:
            with self._writing:
                self._erase()
                print(text, file=sys.stderr, flush=True)

    def _show(self) -> None:
        if self.quiet or self._stop.wait(LONG):
            return
        period = 0.5 if self._live else 10.0
        while True:
            lines = self._report()
            with self._writing:
                self._erase()
                print("\n".join(lines), file=sys.stderr, flush=True)
                self._lines = len(lines) if self._live else 0
            if self._stop.wait(period):
                with self._writing:
                    self._erase()
                return

    def _erase(self) -> None:
        if self._lines:
            sys.stderr.write(f"\x1b[{self._lines}A\x1b[J")
            self._lines = 0

    def _report(self) -> list[str]:
        left = self.scheduled.known
        lines = [f"{self.scheduled.made} done, {left} to do"]
        for name in list(self.scheduled.active):
            try:
                state = json.loads((self.root / f"{name}.partial/scratch/progress.json").read_text(encoding="utf-8"))
                lines.append(f"  {name}  {describe(state)}")
            except (OSError, ValueError):
                lines.append(f"  {name}  starting")
        return lines


def tell(text: str) -> None:
    """Print one line for the person who waits, on standard error."""
    print(text, file=sys.stderr, flush=True)


class Shown:
    """Progress of what is no run, such as a download, on standard error: a line when it takes long, and then now and
    then. It is called as `Draft.progress` is."""

    def __init__(self, period: float = 10.0) -> None:
        self.period = period
        self._due = time.monotonic() + LONG
        self._first: tuple[float, float] | None = None

    def __call__(self, done: float, total: float, unit: str = "steps", note: str = "") -> None:
        now = time.monotonic()
        self._first = self._first or (now, done)
        if now < self._due:
            return
        self._due = now + self.period
        since, start = self._first
        rate = (done - start) / (now - since) if now > since else 0.0
        tell("  " + describe({"done": done, "total": total, "unit": unit, "note": note, "rate": rate}))


def describe(state: dict[str, Any]) -> str:
    """Return one line of progress: how far, the rate, the time left, and the work's own note."""
    done, total, rate = state["done"], state["total"], state["rate"]
    parts = [f"{done:,.0f}/{total:,.0f} {state['unit']}"]
    if rate > 0:
        parts += [f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s", f"{clock((total - done) / rate)} left"]
    if state["note"]:
        parts.append(state["note"])
    return " · ".join(parts)


def clock(seconds: float) -> str:
    """Return a duration as a person says it: `42 s`, `3:07`, `2:15:00`."""
    whole = int(seconds + 0.5)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02}"
    return time.strftime(f"{whole // 3600}:%M:%S", time.gmtime(whole))
