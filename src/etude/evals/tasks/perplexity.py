"""Texts that are read whole: how likely does the model find them, byte for byte?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from etude.evals.items import Passage
from etude.evals.tasks._rows import Row
from etude.evals.tasks.base import Measure, Task


@dataclass(frozen=True)
class Perplexity(Task):
    """Texts in a field, or a text file as one. A text longer than the context is read in windows: every token is
    predicted once, all of the first window, and of each later one what the one before it did not predict.

    `etude run bits-per-byte` reads a training's own splits with windows that overlap; this reads any file.

    Attributes:
        text_field: what holds the text.
        group_field: what holds the part of the task that a text belongs to, or nothing.
    """

    measure: ClassVar[Measure] = "passage"

    text_field: str = "text"
    group_field: str = ""

    def item(self, row: Row) -> Passage:
        group = row.text(self.group_field) if self.group_field else ""
        return Passage(row.where, row.number, group, row.text(self.text_field))

    @classmethod
    def fits(cls, row: Row) -> bool:
        return row.has("text") and not row.has("label")
