"""BIG-bench's own files (Srivastava et al. 2022): a task a file, in JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from etude.core.errors import UsageError
from etude.evals.items import Choice
from etude.evals.tasks._rows import Row
from etude.evals.tasks.base import Measure, Task


@dataclass(frozen=True)
class Bigbench(Task):
    """A `task.json` whose examples have `input` and `target_scores`: the choices, each with what it scores. Those with
    the greatest score are right. The file's `task_prefix` stands before each question, and where it asks for it
    (`append_choices_to_input`) the choices stand in the question.

    Tasks whose answers are written (`target`) are read by `exact-match`.
    """

    measure: ClassVar[Measure] = "choice"
    wording: ClassVar[str] = "qa"

    def item(self, row: Row) -> Choice:
        scores = row.value("target_scores")
        if not isinstance(scores, dict) or not all(isinstance(score, int | float) for score in scores.values()):
            raise UsageError(f"{row.where}: target_scores is {str(scores)[:40]!r} and no number for each choice")
        best = max(scores.values(), default=0)
        right = tuple(number for number, score in enumerate(scores.values()) if score == best)
        prefix, question = str(row.about.get("task_prefix", "")).strip(), row.text("input")
        if row.about.get("append_choices_to_input", True):
            question += "".join(f"\n- {choice}" for choice in scores)
        return Choice(row.where, row.number, "", f"{prefix}\n{question}".strip(), tuple(scores), right)

    @classmethod
    def fits(cls, row: Row) -> bool:
        return row.has("input", "target_scores")
