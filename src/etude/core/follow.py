"""Reading a run's record while it is written. Nothing here writes anything.

A record grows at its end. Work that goes on after a kill drops the rows that it will log again, which puts a shorter
file in the record's place; then the reader begins again at the first row, and whoever reads must not mind a row twice.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from etude.core.files import read_json
from etude.core.run import MANIFEST

RECORD = "record.jsonl"


class Follower:
    """One run's record, complete or being made.

    Args:
        root: the folder of runs.
        run: the run's id.
    """

    def __init__(self, root: Path, run: str) -> None:
        self.run, self._done, self._draft = run, root / run, root / f"{run}.partial"
        self._file: int | None = None
        self._at = 0
        self._last = b""
        self._count = 0

    @property
    def is_done(self) -> bool:
        """Whether the run is complete, so that no row will come any more."""
        return (self._done / MANIFEST).exists()

    @property
    def is_there(self) -> bool:
        """Whether there is a run or a draft of it."""
        return self.is_done or self._draft.is_dir()

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe as JSON data."""
        return read_json(self._folder / "recipe.json")

    def rows(self) -> list[tuple[int, dict[str, Any]]]:
        """Return the rows that came since this was asked last, or all of them where the record was begun anew, each
        with its place in the record."""
        for folder in (self._folder, self._done):  # a draft may become a run between two looks
            with contextlib.suppress(FileNotFoundError):
                return list(self._read(folder / RECORD))
        return []

    @property
    def _folder(self) -> Path:
        return self._done if self.is_done else self._draft

    def _read(self, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        with path.open("rb") as file:
            if not self._goes_on(file):
                self._at, self._last, self._count = 0, b"", 0
            file.seek(self._at)
            for line in file:
                if not line.endswith(b"\n"):  # it is being written
                    return
                self._at, self._last = self._at + len(line), line
                self._count += 1
                with contextlib.suppress(ValueError):
                    yield self._count - 1, json.loads(line)

    def _goes_on(self, file: BinaryIO) -> bool:
        """Whether this is the file that was read, and what was read last still stands where it stood."""
        before, self._file = self._file, os.fstat(file.fileno()).st_ino
        file.seek(self._at - len(self._last))
        return self._file == before and file.read(len(self._last)) == self._last
