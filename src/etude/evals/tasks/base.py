"""What a task is: a file of items, and how a model is measured by them."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, Self

from etude.core.errors import DamagedError, UsageError
from etude.core.family import Member
from etude.core.spec import AUTO, cosmetic
from etude.evals.items import Item
from etude.evals.tasks._rows import SUFFIXES, Row, rows
from etude.text.places import Place, content_hash

Measure = Literal["choice", "cloze", "written", "passage"]
"""What is measured: which of several answers is the likeliest, how likely a continuation is, what is written, or how
likely a whole text is."""


class Read(NamedTuple):
    """The items of a file.

    Attributes:
        items: those that can be asked, in order.
        spoiled: of each other one, what is wrong with it.
    """

    items: list[Item]
    spoiled: list[str]


@dataclass(frozen=True)
class Task(Member, abc.ABC):
    """A file of items.

    Attributes:
        path: the file, or a folder or `hub:OWNER/NAME` that holds it. It does not enter the fingerprint: the content
            does.
        file: which file of a folder; needed where there are several.
        sha256: identity of the content. Left at auto, it is taken from what is there; set, what is there must have it.
    """

    measure: ClassVar[Measure]
    wording: ClassVar[str] = "plain"
    """How its questions are put where nothing else is asked for: a name in `etude.evals.prompting.WORDINGS`."""

    header: ClassVar[bool] = True
    """Whether the first row of a CSV file names the columns."""

    path: str = cosmetic("")
    file: str = cosmetic("")
    sha256: str = AUTO

    @abc.abstractmethod
    def item(self, row: Row) -> Item:
        """Return the item of a row.

        Raises:
            UsageError: the row is malformed; the message says where, and which field.
        """

    @classmethod
    @abc.abstractmethod
    def fits(cls, row: Row) -> bool:
        """Return whether a file whose first row this is, read with the member's `header`, is of this member's form."""

    @property
    def chosen(self) -> Path:
        """The file.

        Raises:
            UsageError: there is none, or there are several and none is named.
        """
        place = self._place()
        found = {name: file for name, file in place.files().items() if file.suffix.lower() in SUFFIXES}
        if self.file:
            named = [path for name, path in found.items() if self.file in (name, path.name)]
            if not named:
                raise place.missing(f"file {self.file!r}")
            return named[0]
        if len(found) > 1:
            shown = ", ".join(list(found)[:5])
            raise UsageError(f"{self.path!r} holds {len(found)} files of items: name one with --task.file, as {shown}")
        if not found:
            raise place.missing("file of items")
        return next(iter(found.values()))

    def read(self) -> Read:
        """Return the file's items, and what is wrong with the rows that are none.

        Raises:
            UsageError: no row is an item.
            DamagedError: the content has not the identity in `sha256`.
        """
        self.check_identity()
        return self._read(self.chosen)

    def examples(self) -> Read | None:
        """Return the items that few-shot prompts show, or None where they are drawn from the file itself."""
        return None

    def identity(self) -> str:
        """Return a hash (64 hex) of everything that decides the items, apart from the fields."""
        return content_hash(f"{self.name} 1", [("items", self.chosen)])

    def settle(self) -> Self:
        return self if self.sha256 != AUTO else dataclasses.replace(self, sha256=self.identity())

    def check_identity(self) -> None:
        """Raise DamagedError where the content is not what `sha256` says."""
        if self.sha256 != AUTO and self.sha256 != (found := self.identity()):
            raise DamagedError(
                f"task {self.name}: {self.path!r} has changed, its sha256 is {found[:12]} and the recipe's is"
                f" {self.sha256[:12]}; put the old file back, or leave sha256 out to use the new one"
            )

    def _read(self, path: Path) -> Read:
        found = Read([], [])
        for row in rows(path, self.header):
            try:
                if row.problem:
                    raise UsageError(row.problem)
                found.items.append(self.item(row))
            except UsageError as error:
                found.spoiled.append(str(error))
        if not found.items:
            why = f": {found.spoiled[0]}" if found.spoiled else ""
            raise UsageError(f"{path.name!r} has no item that task {self.name} can ask{why}")
        return found

    def _place(self) -> Place:
        layout = f"a file that ends in one of {', '.join(SUFFIXES)}"
        return Place(self.name, self.path, layout, noun="task", flag="--task.path FILE")


def first_row(path: Path, header: bool) -> Row | None:
    """Return the first row of a file that can be read, or None."""
    readable: Iterator[Row] = (row for row in rows(path, header) if not row.problem)
    return next(readable, None)
