"""A dialogue as data, and the text of it that a model reads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from etude.core.errors import UsageError
from etude.text import turns
from etude.text.turns import Marks

if TYPE_CHECKING:
    from etude.chat.prompts.base import Prompt

Role = Literal["user", "model"]

ROLES: dict[str, Role] = {"user": "user", "assistant": "model", "model": "model"}
"""The roles by the names that they have in JSON."""


@dataclass(frozen=True)
class Turn:
    """What one of the two says.

    Attributes:
        role: who says it.
        text: any text, of which nothing acts: see `render`.

    Raises:
        UsageError: the role is not one of the two, or the text cannot be written in UTF-8.
    """

    role: Role
    text: str

    def __post_init__(self) -> None:
        if self.role not in ("user", "model"):
            raise UsageError(f"role {self.role!r} is not one of: user, model")
        if not isinstance(self.text, str):
            raise UsageError(f"what a turn says is text, not {type(self.text).__name__}")
        lone = next((c for c in self.text if "\ud800" <= c <= "\udfff"), None)
        if lone is not None:
            raise UsageError(f"what the {self.role} says holds {lone!r}, which is not UTF-8: give text in UTF-8")


@dataclass(frozen=True)
class Dialogue:
    """Turns of the user and the model in exchange, the user's first.

    Attributes:
        turns: in order.

    Raises:
        UsageError: a turn is out of order; the message has its number, from 1.
    """

    turns: tuple[Turn, ...] = ()

    def __post_init__(self) -> None:
        for number, turn in enumerate(self.turns, 1):
            wanted = "user" if number % 2 else "model"
            if turn.role != wanted:
                before = "the first is the user's" if number == 1 else f"so is turn {number - 1}"
                raise UsageError(f"turn {number} is the {turn.role}'s and {before}: turns alternate, the user's first")

    def __len__(self) -> int:
        return len(self.turns)

    def __add__(self, turn: Turn) -> Dialogue:
        return Dialogue((*self.turns, turn))

    def without(self, count: int) -> Dialogue:
        """Return the dialogue without its first so many exchanges."""
        return Dialogue(self.turns[2 * count :])

    @property
    def answered(self) -> bool:
        """Whether the last turn is the model's."""
        return bool(self.turns) and self.turns[-1].role == "model"

    def messages(self) -> list[dict[str, str]]:
        """Return the turns as JSON data, in the form that OpenAI's endpoint has: the model is the `assistant`."""
        return [{"role": "user" if t.role == "user" else "assistant", "content": t.text} for t in self.turns]

    @classmethod
    def from_messages(cls, data: Any) -> Dialogue:
        """Read what `messages` gives.

        Raises:
            UsageError: it has another form, or a turn is out of order; the message has its number.
        """
        if not isinstance(data, list):
            raise UsageError(f"a dialogue is a list of messages, not {type(data).__name__}")
        return cls(tuple(_turn(message, number) for number, message in enumerate(data, 1)))


def _turn(message: Any, number: int) -> Turn:
    if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
        raise UsageError(f'turn {number} is no message: write {{"role": "user", "content": "..."}}')
    role, content = message["role"], message["content"]
    if not isinstance(role, str) or role not in ROLES:
        raise UsageError(f"turn {number} has the role {role!r}, which is not one of: user, assistant")
    if not isinstance(content, str):
        raise UsageError(f"turn {number} holds {type(content).__name__} and no text")
    return Turn(ROLES[role], content)


def render(prompt: Prompt, dialogue: Dialogue, system: str = "") -> str:
    r"""Return what a model reads in order to say the next turn, ending with its mark.

    The layout is the one that `etude.text.turns` finds and `objective dialogue` trains on: `User: ...\nAssistant: ...`.
    What is said cannot begin a turn: a line of it that begins with a mark is indented by a space. White space around
    what is said is left out.

    Args:
        prompt: its role and turns come first.
        dialogue: what was said, the user's turn last. Of a story, the text so far.
        system: what is to come before the prompt.
    """
    if prompt.story:
        return told(prompt.text, dialogue)
    before = turns.unmarked(system.strip(), prompt.marks, first=True)
    head = "\n\n".join(part for part in (before, prompt.text) if part)
    lines = "\n".join([*(said(turn, prompt.marks) for turn in dialogue.turns), prompt.marks.model])
    return "".join((head, "\n" if prompt.examples else "\n\n" if head else "", lines))


def said(turn: Turn, marks: Marks) -> str:
    """Return the lines of one turn, in which no other turn begins."""
    mark = marks.user if turn.role == "user" else marks.model
    return turns.said(mark, turn.text, marks)


def told(opening: str, dialogue: Dialogue) -> str:
    """Return a story so far: what the model wrote as it wrote it, and a space before the user's words where they would
    run into the last one."""
    text = opening
    for turn in dialogue.turns:
        apart = turn.role == "user" and text and not text[-1].isspace() and OPENS.match(turn.text)
        text += f" {turn.text}" if apart else turn.text
    return text


OPENS = re.compile(r"[^\W_]|[\"'(“‘]")
"""How a word begins."""
