"""Items that are left out of a score, as data: which rows of which file."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from etude.core.errors import DamagedError, UsageError
from etude.core.spec import AUTO, Spec, cosmetic
from etude.text.places import sha256_of


@dataclass(frozen=True)
class ItemMask(Spec):
    """Items that are left out.

    The file is JSON: `{"masked": {FILE: [ROW, ...]}}`, with the name of a file of items and the numbers of its rows,
    from 1; other keys say where it comes from. A search for leakage of a file of items writes one: `mask.json` in the
    run of its `overlap`.

    Attributes:
        path: the file; nothing masks nothing.
        sha256: identity of its content. Left at auto, it is taken from what is there.
    """

    path: str = cosmetic("")
    sha256: str = AUTO

    def settle(self) -> Self:
        if self.sha256 != AUTO:
            return self
        return replace(self, sha256=sha256_of(self._file()) if self.path else "")

    def masked(self) -> dict[str, frozenset[int]]:
        """Return the rows that are left out, by the name of their file.

        Raises:
            UsageError: the file is not there, or is no mask.
            DamagedError: its content has changed.
        """
        if not self.path and self.sha256 in (AUTO, ""):
            return {}
        file = self._file()
        if self.sha256 not in (AUTO, sha256_of(file)):
            raise DamagedError(f"the mask {self.path!r} has changed; put the old one back, or leave sha256 out")
        try:
            held: Any = json.loads(file.read_text(encoding="utf-8"))
            return {name: frozenset(_rows(rows)) for name, rows in held["masked"].items()}
        except (ValueError, KeyError, AttributeError, TypeError):
            raise UsageError(f'{self.path!r} is no mask: write {{"masked": {{"FILE": [1, 2]}}}}') from None

    def _file(self) -> Path:
        file = Path(self.path).expanduser()
        if not file.is_file():
            raise UsageError(f"no file {self.path!r}: give the mask with --mask.path FILE")
        return file


def _rows(rows: Any) -> list[int]:
    if not all(isinstance(row, int) and row >= 1 for row in rows):
        raise ValueError
    return list(rows)
