"""What a prompt is: a role and example turns, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from etude.chat.dialogue import Dialogue, Turn, said
from etude.core.errors import UsageError
from etude.core.family import Member
from etude.text.turns import Marks


@dataclass(frozen=True)
class Prompt(Member):
    """What a model reads before a conversation. Its wording is part of its identity: a member whose words change gets
    the next `version`.

    Attributes:
        user_mark: how a turn begins that is said to the model.
        model_mark: how a turn of the model begins.
        one_line: whether a turn of the model ends with its first line. `objective dialogue` teaches a model to end the
            last line of what it says, and not to write the mark that follows: without this it would go on.
    """

    role: ClassVar[str] = ""
    """Who the two are, in a paragraph; empty for none."""

    examples: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Exchanges that show how the model is to answer: what is said to it, and what it says."""

    story: ClassVar[bool] = False
    """Whether there are no turns: the two write one text together."""

    user_mark: str = "User:"
    model_mark: str = "Assistant:"
    one_line: bool = False

    def check(self) -> None:
        for mark in (self.user_mark, self.model_mark):
            if not mark.strip() or mark != mark.strip() or "\n" in mark:
                raise UsageError(f"mark {mark!r}: it is some letters within one line, without space around them")
        if self.user_mark.startswith(self.model_mark) or self.model_mark.startswith(self.user_mark):
            raise UsageError(f"marks {self.user_mark!r} and {self.model_mark!r} begin alike: change one")

    @property
    def marks(self) -> Marks:
        """How turns begin."""
        return Marks(self.user_mark, self.model_mark)

    @property
    def stops(self) -> tuple[str, ...]:
        """What ends a turn of the model: a mark at the beginning of a line."""
        if self.story:
            return ()
        return ("\n",) if self.one_line else (f"\n{self.user_mark}", f"\n{self.model_mark}")

    @property
    def text(self) -> str:
        """What comes before the conversation: the role, a blank line, and the examples as turns."""
        turns = Dialogue(tuple(turn for u, m in self.examples for turn in (Turn("user", u), Turn("model", m)))).turns
        lines = "\n".join(said(turn, self.marks) for turn in turns)
        return "\n\n".join(part for part in (self.role, lines) if part)
