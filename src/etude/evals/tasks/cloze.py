"""Texts with their continuation: how likely is it, and would the model write it?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from etude.evals.items import Cloze as Item
from etude.evals.tasks._rows import Row
from etude.evals.tasks.base import Measure, Task


@dataclass(frozen=True)
class Cloze(Task):
    """Items with `context` and `continuation`. It is right where the model would write the continuation greedily, token
    for token; its log-likelihood is told beside that.

    Attributes:
        question_field: what holds the text before.
        continuation_field: what holds what follows.
        group_field: what holds the part of the task that an item belongs to, or nothing.
    """

    version: ClassVar[int] = 2  # 2: bits a byte are told too

    measure: ClassVar[Measure] = "cloze"

    question_field: str = "context"
    continuation_field: str = "continuation"
    group_field: str = ""

    def item(self, row: Row) -> Item:
        group = row.text(self.group_field) if self.group_field else ""
        return Item(
            row.where, row.number, group, row.text(self.question_field), row.text(self.continuation_field).strip(" ")
        )

    @classmethod
    def fits(cls, row: Row) -> bool:
        return row.has("context", "continuation")
