"""Texts with a label: which label does the model find likeliest?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from etude.core.errors import UsageError
from etude.evals.items import Choice
from etude.evals.tasks._rows import Row
from etude.evals.tasks.base import Measure, Task


@dataclass(frozen=True)
class Classification(Task):
    """Texts whose labels are put into words, the same for every text. Beside accuracy it has the macro F1.

    Attributes:
        text_field: what holds the text; of a CSV file without a header the column's number, from 1.
        label_field: what holds the label: a number, or one of the words.
        labels: the words, by number.
        first: number of the first label, 0 or 1.
        headed: whether a CSV file begins with the names of its columns.
    """

    measure: ClassVar[Measure] = "choice"
    wording: ClassVar[str] = "label"

    text_field: str = "text"
    label_field: str = "label"
    labels: tuple[str, ...] = ("negative", "positive")
    first: int = 0
    headed: bool = True

    def check(self) -> None:
        if len(self.labels) < 2:
            raise UsageError(f"labels = {', '.join(self.labels) or '(none)'}: give two words or more")

    @property
    def header(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.headed

    def item(self, row: Row) -> Choice:
        said = row.value(self.label_field)
        if said in self.labels:
            right = self.labels.index(said)
        elif str(said).strip().isdecimal():
            right = int(said) - self.first
        else:
            raise UsageError(f"{row.where}: the label {str(said)[:40]!r} is not among {', '.join(self.labels)}")
        return Choice(row.where, row.number, "", row.text(self.text_field), self.labels, (right,))

    @classmethod
    def fits(cls, row: Row) -> bool:
        return row.has("text", "label")
