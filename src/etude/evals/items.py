"""What a task asks, as plain data: one item is one question with what is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from etude.core.errors import UsageError
from etude.core.run import Run, read_rows

ITEMS = "items.jsonl"
"""In the run of an evaluation, a line for each item: what was said to it, and what that comes to."""


def items_of(run: Run) -> list[dict[str, Any]]:
    """Return what was said to each item that an evaluation asked, in the order of the file."""
    return list(read_rows(run.file(ITEMS)))


@dataclass(frozen=True)
class Item:
    """What every item has.

    Attributes:
        where: its file and place there, as in `anatomy_test.csv, row 3`, for messages and tables.
        number: of its row in the file, from 1, by which masks name it.
        group: the part of the task that it belongs to (a category of TruthfulQA), or nothing.
    """

    where: str
    number: int
    group: str


@dataclass(frozen=True)
class Choice(Item):
    """A question with several answers, of which some are right.

    Attributes:
        question: what is read, or of several questions that one text may follow (Winograd schemas) nothing.
        choices: what may follow, each without the space before it.
        right: the numbers of the right ones.
        questions: where there are several: one for each choice; the choices are then all alike.
    """

    question: str
    choices: tuple[str, ...]
    right: tuple[int, ...]
    questions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.choices) < 2:
            raise UsageError(f"{self.where}: {len(self.choices)} choice leaves nothing to choose: give two or more")
        if not all(choice.strip() for choice in self.choices):
            raise UsageError(f"{self.where}: choice {_blank(self.choices)} is empty: write what may be answered")
        if not self.right or not all(0 <= number < len(self.choices) for number in self.right):
            raise UsageError(
                f"{self.where}: the answer {_listed(self.right)} is not among the {len(self.choices)} choices, which"
                " count from 0"
            )
        if self.questions and len(self.questions) != len(self.choices):
            raise UsageError(
                f"{self.where}: {len(self.questions)} questions and {len(self.choices)} choices: give one for each"
            )


@dataclass(frozen=True)
class Cloze(Item):
    """A text and how it goes on.

    Attributes:
        question: what is read.
        continuation: what follows, without the space before it.
    """

    question: str
    continuation: str

    def __post_init__(self) -> None:
        if not self.continuation.strip():
            raise UsageError(f"{self.where}: the continuation is empty: write what follows")


@dataclass(frozen=True)
class Written(Item):
    """A question that is answered in writing.

    Attributes:
        question: what is read.
        answers: any of these is right.
    """

    question: str
    answers: tuple[str, ...]

    def __post_init__(self) -> None:
        if not any(answer.strip() for answer in self.answers):
            raise UsageError(f"{self.where}: no answer is given: write at least one")


@dataclass(frozen=True)
class Passage(Item):
    """A text that is read whole.

    Attributes:
        text: it.
    """

    text: str

    def __post_init__(self) -> None:
        if not self.text:
            raise UsageError(f"{self.where}: the text is empty: leave the item out")


def _blank(choices: Sequence[str]) -> int:
    return next(number for number, choice in enumerate(choices) if not choice.strip())


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers)) or "(none)"
