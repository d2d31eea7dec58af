"""Questions with several answers: which one does the model find likeliest?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from etude.core.errors import UsageError
from etude.evals.items import Choice
from etude.evals.tasks._rows import Row
from etude.evals.tasks.base import Measure, Task


@dataclass(frozen=True)
class MultipleChoice(Task):
    """Items with `query`, `choices` and `gold`, the number of the right choice from 0 (or a list of several). Winograd
    schemas have `context_options`, one for each reading, and one `continuation` instead.

    Attributes:
        question_field: what holds the question.
        choices_field: what holds the answers.
        gold_field: what holds the right one's number, or its text.
        group_field: what holds the part of the task that an item belongs to, or nothing.
    """

    measure: ClassVar[Measure] = "choice"

    question_field: str = "query"
    choices_field: str = "choices"
    gold_field: str = "gold"
    group_field: str = ""

    def item(self, row: Row) -> Choice:
        group = row.text(self.group_field) if self.group_field else ""
        if row.has("context_options", "continuation"):
            questions = row.texts("context_options")
            follows = (row.text("continuation"),) * len(questions)
            right = self._right(row, questions)
            return Choice(row.where, row.number, group, "", follows, right, questions)
        choices = row.texts(self.choices_field)
        return Choice(row.where, row.number, group, row.text(self.question_field), choices, self._right(row, choices))

    @classmethod
    def fits(cls, row: Row) -> bool:
        return row.has("query", "choices", "gold") or row.has("context_options", "continuation", "gold")

    def _right(self, row: Row, choices: tuple[str, ...]) -> tuple[int, ...]:
        said = row.value(self.gold_field)
        return tuple(_number(row, part, choices) for part in (said if isinstance(said, list) else [said]))


def _number(row: Row, said: object, choices: tuple[str, ...]) -> int:
    """Return which choice is meant: by its number, or by its text."""
    if isinstance(said, int) and not isinstance(said, bool):
        return said
    if isinstance(said, str) and said in choices:
        return choices.index(said)
    if isinstance(said, str) and said.isdecimal():
        return int(said)
    raise UsageError(f"{row.where}: the answer {str(said)[:40]!r} is not among the {len(choices)} choices")
