"""The learner's notebook: what was done, as a list of events that only grows. All else is computed from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from etude.core.errors import DamagedError
from etude.core.files import write_json
from etude.core.locks import held

FOLDER = ".practice"
VERSION = 1

Event = dict[str, Any]
"""`when` (ISO, UTC), `what`, and what belongs to it; `challenge` where it is of one."""


class Notebook:
    """The events of a folder, written in one step each time, and then once more beside it.

    Several processes may write (a watcher, and a hint asked for in another terminal): each adds to what stands there.

    Args:
        desk: the folder in which somebody practises.
        now: the clock.
        say: told where a damaged file was passed over.
    """

    def __init__(
        self, desk: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC), say: Callable[[str], None] = print
    ) -> None:
        self.folder = desk / FOLDER
        self.path, self.backup = self.folder / "notebook.json", self.folder / "notebook.backup.json"
        self.now, self.say = now, say
        self._told = False

    @property
    def exists(self) -> bool:
        return self.path.exists() or self.backup.exists()

    def events(self) -> list[Event]:
        """Return every event, in order.

        Raises:
            DamagedError: neither the notebook nor its backup can be read, or a later release wrote it.
        """
        if not self.exists:
            return []
        try:
            return _read(self.path)
        except DamagedError as error:
            try:
                found = _read(self.backup)
            except DamagedError:
                raise DamagedError(
                    f"{error}, nor is {self.backup.name}; your answers are safe in the folders of the tracks and in"
                    f" {FOLDER}/kept: move both notebooks away to begin a new one"
                ) from None
            if not self._told:
                self.say(f"{error}; going on from {self.backup.name} beside it")
            self._told = True
            return found

    def add(self, what: str, **facts: Any) -> Event:
        """Write an event down.

        Raises:
            DamagedError: nothing was begun here, or the notebook has gone since.
        """
        if what != "begun" and not self.exists:
            raise DamagedError(f"{self.path} is gone: put {FOLDER} back where it was, and go on")
        self.folder.mkdir(parents=True, exist_ok=True)
        with held(self.folder, "notebook"):
            events = self.events()
            event: Event = {"when": self.now().astimezone(UTC).isoformat(timespec="seconds"), "what": what, **facts}
            told = {"version": VERSION, "events": [*events, event]}
            write_json(self.path, told)
            write_json(self.backup, told)
        return event


def _read(path: Path) -> list[Event]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        events, version = told["events"], told["version"]
        whole = isinstance(events, list) and all({"when", "what"} <= event.keys() for event in events)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise DamagedError(f"{path} cannot be read") from None
    if version > VERSION:
        raise DamagedError(f"{path} is of a later release of Etude (version {version}): update Etude")
    if not whole:
        raise DamagedError(f"{path} cannot be read")
    return events


def moment(event: Event) -> datetime:
    """Return when an event was."""
    return datetime.fromisoformat(event["when"])
