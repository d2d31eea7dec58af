"""Questions that are answered in writing: is it the answer, word for word?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from etude.core.errors import UsageError
from etude.evals.items import Written
from etude.evals.tasks._rows import Row
from etude.evals.tasks.base import Measure, Task


@dataclass(frozen=True)
class ExactMatch(Task):
    """Items with `context`, `answer` and, where several are right, `aliases`. The model writes greedily until a line
    ends.

    Attributes:
        question_field: what holds the question.
        answer_field: what holds the answer, a text or a number.
        take: what of the text that the model wrote is compared: all of it (`text`), or its last `number`.
        stop: texts that end the writing.
        max_tokens: tokens to write at most.
    """

    measure: ClassVar[Measure] = "written"

    question_field: str = "context"
    answer_field: str = "answer"
    take: Literal["text", "number"] = "text"
    stop: tuple[str, ...] = ("\n",)
    max_tokens: int = 32

    def check(self) -> None:
        if self.max_tokens < 1:
            raise UsageError(f"max_tokens = {self.max_tokens} is too small: it is 1 or more")

    def item(self, row: Row) -> Written:
        said = row.value(self.answer_field)
        if isinstance(said, bool) or not isinstance(said, str | int | float):
            raise UsageError(f"{row.where}: {self.answer_field} is {str(said)[:40]!r} and neither text nor number")
        aliases = row.texts("aliases") if row.has("aliases") else ()
        answers = tuple(dict.fromkeys([str(said).strip(), *aliases]))
        return Written(row.where, row.number, "", row.text(self.question_field), answers)

    @classmethod
    def fits(cls, row: Row) -> bool:
        return row.has("context", "answer") and not row.has("continuation")
