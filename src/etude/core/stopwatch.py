"""How long a run took to make, over all the processes that had a part in it, and when the first of them began."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

from etude.core.errors import DamagedError
from etude.core.files import read_json, write_json


class Stopwatch:
    """Counts from when it is made, on top of what a small file says was spent before.

    Args:
        path: the file. A process that is killed leaves there what it spent up to the last `keep`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._from = time.monotonic()
        self._begun: dict[str, Any] = {}
        self._earlier = 0.0

    @property
    def seconds(self) -> float:
        """What was spent in all."""
        return round(self._earlier + time.monotonic() - self._from, 3)

    def begin(self, origin: dict[str, Any]) -> None:
        """Take a provenance as where the work starts. Where it goes on instead, the provenance is told when it first
        started, and with which code if that was another."""
        self._begun = {"started": origin["timing"]["started"], "code": dict(origin["code"])}
        with contextlib.suppress(DamagedError, KeyError, TypeError, ValueError):
            kept = read_json(self.path)
            self._earlier, self._begun = float(kept["seconds"]), {key: kept[key] for key in self._begun}
        origin["timing"]["started"] = self._begun["started"]
        if self._begun["code"] != origin["code"]:
            origin["begun_with_code"] = self._begun["code"]
        self.keep()

    def keep(self) -> None:
        """Write down what was spent so far, if there is room to."""
        if self._begun:
            with contextlib.suppress(OSError):
                write_json(self.path, {**self._begun, "seconds": self.seconds})
