"""Metrics on their way out: which tracker a word means, following one run, and following all that a command makes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import cast

from etude.core.errors import EtudeError, UsageError, unknown
from etude.core.family import Family
from etude.core.follow import Follower
from etude.core.lab import Begun
from etude.core.shelf import Shelf
from etude.report.trackers.base import Tracker
from etude.report.trail import Trail

FAMILY = Family("report/trackers")

PERIOD = 1.0
"""Seconds between two looks at a record."""

PATIENCE = 20.0
"""Seconds that a command waits for a tracker when its work is done."""


def tracker_named(text: str) -> Tracker:
    """Return the tracker that `NAME:PLACE` means.

    Raises:
        UsageError: there is none, it has no place, or what it needs is not installed.
    """
    name, _, place = text.partition(":")
    tracker = cast(type[Tracker], FAMILY.member(name))(place)
    tracker.require()
    return tracker


def follow(root: Path, text: str, tracker: Tracker, say: Callable[[str], None]) -> int:
    """Write a run's record into a tracker while it grows, until the run is complete or the person stops it.

    Args:
        root: the folder of runs.
        text: the run, or a draft that is being made: an id, the start of one, or a name.
        tracker: where to.
        say: takes a line for the person.

    Returns:
        How many values were written.

    Raises:
        UsageError: there is no such run.
        EtudeError: the draft was removed, or the tracker fails.
    """
    run = _found(Shelf(root), text)
    follower = Follower(root, run)
    trail = Trail(follower, tracker)
    if not follower.is_done:
        say(f"following {run}; Ctrl-C stops this, and not the run")
    try:
        while trail.go_on():
            if not follower.is_there:
                raise EtudeError(f"{run} was removed while it was followed; {trail.written} values were written")
            time.sleep(PERIOD)
    except KeyboardInterrupt:
        say(f"stopped; the same command goes on, and writes nothing twice: etude runs follow {run}")
    except EtudeError:
        raise
    except Exception as error:  # whatever somebody else's library raises
        raise EtudeError(f"the tracker {tracker.name} at {tracker.place} fails: {_line(error)}") from error
    finally:
        trail.close()
    return trail.written


def _found(shelf: Shelf, text: str) -> str:
    """Return the id of the run or draft that a person means.

    Raises:
        UsageError: there is none, or several begin so.
    """
    drafts = [path.name.removesuffix(".partial") for path in shelf.unfinished()]
    alike = [name for name in drafts if name.startswith(text)]
    runs = [run.id for run in shelf]
    if any(name.startswith(text) for name in runs) or text in shelf.names() or Path(text).is_dir():
        return shelf.find(text).id
    if not alike:
        raise unknown("run or draft", text, [*runs, *drafts, *shelf.names()], see="etude runs")
    if len(alike) > 1 and text not in alike:
        raise UsageError(f"{text!r} begins {len(alike)} drafts: {', '.join(alike)}; write more of the id")
    return text if text in alike else alike[0]


class Tracking:
    """Follows every run that a command makes, in a thread of its own. Its trouble is said once, and ends only itself.

    Args:
        root: the folder of runs.
        tracker: where to.
        begun: what is being made.
        say: takes a line for the person.
    """

    def __init__(self, root: Path, tracker: Tracker, begun: Begun, say: Callable[[str], None]) -> None:
        self.root, self.tracker, self.begun, self.say = root, tracker, begun, say
        self._trails: list[Trail] = []
        self._seen = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="tracking", daemon=True)

    def __enter__(self) -> Tracking:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            self.say(f"the tracker {self.tracker.name} does not answer; {self._remedy}")

    @property
    def _remedy(self) -> str:
        return (
            f"the runs are whole, and go there by: etude runs follow RUN --to {self.tracker.name}:{self.tracker.place}"
        )

    def _follow(self) -> None:
        try:
            while not self._stop.wait(PERIOD):
                self._look()
            self._look()
            for trail in self._trails:
                trail.close()
        except Exception as error:  # noqa: BLE001 (a tracker's trouble is not the work's)
            self.say(f"the tracker {self.tracker.name} fails and is left: {_line(error)}; {self._remedy}")

    def _look(self) -> None:
        """Write what is new of every run that was begun, and be done with those that are complete."""
        new = self.begun.begun[self._seen :]
        self._seen += len(new)
        self._trails += [Trail(Follower(self.root, run), self.tracker) for run in new]
        for trail in list(self._trails):
            if not trail.go_on():
                trail.close()
                self._trails.remove(trail)


def _line(error: Exception) -> str:
    """Return an error in one line that is not too long."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 200 else words[:199] + "…"
