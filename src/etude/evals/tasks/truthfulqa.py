"""TruthfulQA: questions that people answer wrongly by habit (Lin et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from etude.core.seeds import stream
from etude.evals.items import Choice
from etude.evals.tasks._rows import Row
from etude.evals.tasks.base import Measure, Task


@dataclass(frozen=True)
class Truthfulqa(Task):
    """`TruthfulQA.csv`, by its category. With `answers` at `best`, accuracy is MC1: whether the best answer is likelier
    than every incorrect one. With `all`, the mass is MC2: the share of the probability of all answers that the correct
    ones have (Lin et al. 2021, section 3.2).

    The file has the right answers before the wrong ones; here a question's own words decide the order.

    Attributes:
        answers: the best answer against the incorrect ones, or all of both kinds.
    """

    measure: ClassVar[Measure] = "choice"
    wording: ClassVar[str] = "qa"

    answers: Literal["best", "all"] = "best"

    def item(self, row: Row) -> Choice:
        question, best = row.text("Question"), row.text("Best Answer").strip()
        others = _listed(row.text("Correct Answers")) if self.answers == "all" else ()
        right = dict.fromkeys([best, *others])
        wrong = dict.fromkeys(answer for answer in _listed(row.text("Incorrect Answers")) if answer not in right)
        choices = sorted([*right, *wrong], key=lambda answer: stream(0, question, answer))
        numbers = tuple(number for number, answer in enumerate(choices) if answer in right)
        return Choice(row.where, row.number, row.text("Category"), question, tuple(choices), numbers)

    @classmethod
    def fits(cls, row: Row) -> bool:
        return row.has("Question", "Best Answer", "Correct Answers", "Incorrect Answers")


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(";") if part.strip())
