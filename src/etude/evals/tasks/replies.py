"""Dialogues: how likely is what was answered last?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from etude.core.errors import UsageError
from etude.evals.items import Cloze
from etude.evals.tasks._rows import Row
from etude.evals.tasks.base import Measure, Read, Task
from etude.text.corpora.dialogues import Dialogues
from etude.text.dialogues import Read as Found
from etude.text.dialogues import Talk, of_data


@dataclass(frozen=True)
class Replies(Task):
    """Dialogues in any form that the corpus `dialogues` reads, a file or a folder: of each, the model's last turn after
    the turns before it, in that corpus' layout. One reply a dialogue, so that replies are independent of each other.

    Attributes:
        split: the split of the corpus; `all` is every dialogue.
        before: what stands before each dialogue, with the white space that parts them.
    """

    measure: ClassVar[Measure] = "cloze"

    split: Literal["all", "train", "valid", "test"] = "all"
    before: str = ""

    def read(self) -> Read:
        self.check_identity()
        found = Read([], [])
        for number, talk in enumerate(self._found(), 1):
            if isinstance(talk, Talk):
                found.items.append(self._asked(number, talk))
            else:
                found.spoiled.append(str(talk))
        if not found.items:
            why = f": {found.spoiled[0]}" if found.spoiled else ""
            raise UsageError(f"{self.path!r} has no dialogue that task {self.name} can ask{why}")
        return found

    def item(self, row: Row) -> Cloze:
        (talk,) = of_data(row.where, row.data)
        if not isinstance(talk, Talk):
            raise UsageError(str(talk))
        return self._asked(row.number, talk)

    @classmethod
    def fits(cls, row: Row) -> bool:
        return row.has("messages")

    def identity(self) -> str:
        return self._corpus().identity()

    def _corpus(self) -> Dialogues:
        return Dialogues(path=str(self.chosen) if self.file else self.path, unfit="leave-out")

    def _found(self) -> Iterator[Found]:
        return self._corpus().read() if self.split == "all" else self._corpus().talks(self.split)

    def _asked(self, number: int, talk: Talk) -> Cloze:
        question, reply = talk.answered
        return Cloze(talk.where, number, "", self.before + question, reply)
