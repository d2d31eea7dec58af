"""MMLU: examination questions of 57 subjects with four answers each (Hendrycks et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from etude.core.errors import UsageError
from etude.evals.items import Choice
from etude.evals.tasks._rows import Row
from etude.evals.tasks.base import Measure, Read, Task
from etude.text.places import content_hash

LETTERS = ("A", "B", "C", "D")


@dataclass(frozen=True)
class Mmlu(Task):
    """One subject: a CSV file without a header, `question,A,B,C,D,answer`. The answers are listed by letters, and a
    letter is the answer, as in the paper; `--prompt.wording question` asks for the answers' own words instead.

    Few-shot prompts show the questions of the file in the folder `dev` beside the one that this file is in, where
    there is one: `dev/anatomy_dev.csv` for `test/anatomy_test.csv`.
    """

    measure: ClassVar[Measure] = "choice"
    wording: ClassVar[str] = "letters"
    header: ClassVar[bool] = False

    def item(self, row: Row) -> Choice:
        if len(row.data) != 6:
            raise UsageError(f"{row.where} has {len(row.data)} columns: MMLU has question,A,B,C,D,answer")
        question, *choices, answer = (row.text(str(number)) for number in range(1, 7))
        if answer.strip() not in LETTERS:
            raise UsageError(f"{row.where}: the answer {answer[:40]!r} is not among A, B, C, D")
        return Choice(row.where, row.number, "", question, tuple(choices), (LETTERS.index(answer.strip()),))

    @classmethod
    def fits(cls, row: Row) -> bool:
        return list(row.data) == list("123456") and row.data["6"] in LETTERS

    def examples(self) -> Read | None:
        shown = self._shown()
        return self._read(shown) if shown else None

    def identity(self) -> str:
        shown = self._shown()
        return content_hash("mmlu 1", [("items", self.chosen), *([("examples", shown)] if shown else [])])

    def _shown(self) -> Path | None:
        """Return the file of examples, if there is one."""
        file = self.chosen
        subject = file.stem.removesuffix("_test").removesuffix("_val")
        shown = file.parent.parent / "dev" / f"{subject}_dev.csv"
        return shown if shown.is_file() and shown != file else None
