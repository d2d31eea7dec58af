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
    """Items with `context`, `answer` and, where several are right, `aliases`; or BIG-bench's, with `input` and
    `target`. The model writes greedily until a line ends.

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
        if row.has("input", "target"):
            prefix = str(row.about.get("task_prefix", "")).strip()
            question, said = f"{prefix}\n{row.text('input')}".strip(), row.value("target")
        else:
            question, said = row.text(self.question_field), row.value(self.answer_field)
        answers = said if isinstance(said, list) else [said]
        if not all(isinstance(one, str | int | float) and not isinstance(one, bool) for one in answers):
            raise UsageError(f"{row.where}: the answer is {str(said)[:40]!r} and neither text nor number")
        aliases = row.texts("aliases") if row.has("aliases") else ()
        given = dict.fromkeys(str(one).strip() for one in (*answers, *aliases))
        return Written(row.where, row.number, "", question, tuple(given))

    @classmethod
    def fits(cls, row: Row) -> bool:
        return row.has("context", "answer") or (row.has("input", "target") and not row.has("target_scores"))
