"""Dialogue: the next token of the model's own turns, with the other turns read and not learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from etude.core.errors import UsageError
from etude.models.architectures.base import Architecture
from etude.text.batches import Examples
from etude.text.recipes import Tokens
from etude.text.turns import Marks, Turns
from etude.train.objectives.base import Objective

if TYPE_CHECKING:
    from etude.text.data import TextData


@dataclass(frozen=True)
class Dialogue(Objective):
    """Cross-entropy of the next token in what the model itself says. Each document is a dialogue in which a turn begins
    on a new line with a mark: `User: Hello.`, then `Assistant: Good morning.` A `files` corpus can hold such texts.
    One longer than the context is cut between exchanges.

    Attributes:
        user_mark: how a turn begins that is said to the model.
        model_mark: how a turn of the model begins. The mark is read; what follows it, to the end of the turn, is
            learned.
    """

    per_byte: ClassVar[bool] = False

    user_mark: str = "User:"
    model_mark: str = "Assistant:"

    def check(self) -> None:
        marks = (self.user_mark, self.model_mark)
        if not all(mark.strip() and "\n" not in mark for mark in marks):
            raise UsageError(f"marks {marks[0]!r} and {marks[1]!r}: each is some letters within one line")
        if self.user_mark.startswith(self.model_mark) or self.model_mark.startswith(self.user_mark):
            raise UsageError(f"marks {marks[0]!r} and {marks[1]!r} begin alike, so a line may have both: change one")

    def check_fits(self, data: Tokens, model: Architecture) -> None:
        super().check_fits(data, model)
        if data.openings:
            raise UsageError(f"openings = {data.openings} would cut dialogues short: set --data.openings 0")

    def examples(self, data: TextData, split: str, context: int) -> Examples:
        return Turns(data.store(split), context, data.tokenizer, Marks(self.user_mark, self.model_mark))
