"""Dialogues as files have them: chatterbot's YAML, DailyDialog++, and lists of messages in OpenAI's form."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etude.text.chatterbot import conversations
from etude.text.pieces import mend
from etude.text.reading import opened
from etude.text.splits import fraction
from etude.text.turns import Marks, said, unmarked

SUFFIXES = (".json", ".jsonl", ".yaml", ".yml")
"""Formats that hold dialogues."""

MARKS = Marks()

_MESSAGES = '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}'


@dataclass(frozen=True)
class Talk:
    """A dialogue in which the model says something.

    Attributes:
        where: its file and line, for messages.
        turns: what is said, the user's and the model's in turn, the user's first.
        system: what comes before them.
    """

    where: str
    turns: tuple[str, ...]
    system: str = ""

    @property
    def text(self) -> str:
        """The dialogue in the layout that `objective dialogue` learns from. Nothing that is said can begin a turn."""
        return laid_out(self.turns, self.system)

    @property
    def answered(self) -> tuple[str, str]:
        """What is read before the model's last turn, its mark included, and that turn."""
        last = len(self.turns) - 1 - len(self.turns) % 2
        return f"{laid_out(self.turns[:last], self.system)}\n{MARKS.model}", self.turns[last].strip()


@dataclass(frozen=True)
class Unfit:
    """What is no dialogue.

    Attributes:
        where: its file and line.
        why: what is wrong with it.
    """

    where: str
    why: str

    def __str__(self) -> str:
        return f"{self.where}: {self.why}"


Read = Talk | Unfit


def laid_out(turns: Sequence[str], system: str = "") -> str:
    """Return turns in the layout that `etude.text.turns` finds, after what the system says."""
    head = unmarked(system.strip(), MARKS, first=True)
    lines = (said(MARKS.model if n % 2 else MARKS.user, turn, MARKS) for n, turn in enumerate(turns))
    return "\n\n".join(part for part in (head, "\n".join(lines)) if part)


def dialogues(path: Path, replies: int = 1) -> Iterator[Read]:
    """Yield the dialogues of a file.

    Args:
        path: a file that ends in one of `SUFFIXES`.
        replies: dialogues that are made of one whose last turn is given in several ways.

    Raises:
        UsageError: the file is of none of the forms.
    """
    if path.suffix.lower() in (".yml", ".yaml"):
        for one in conversations(path):
            where = f"{path.name}, line {one.line}"
            yield Unfit(where, one.problem) if one.problem else _checked(where, one.turns)
        return
    for found in _objects(path):
        yield from [found] if isinstance(found, Unfit) else of_data(*found, replies)


def of_data(where: str, data: Any, replies: int = 1) -> Iterator[Read]:
    """Yield what JSON data holds: a list of messages, an object with `messages`, or a row of DailyDialog++."""
    if isinstance(data, dict) and {"context", "positive_responses"} <= data.keys():
        yield from _of_daily(where, data, replies)
    elif isinstance(data, dict) and "messages" in data:
        yield _of_messages(where, data["messages"])
    elif isinstance(data, list):
        yield _of_messages(where, data)
    else:
        yield Unfit(where, f"{str(data)[:40]!r} is no dialogue: write {_MESSAGES}")


def before_reply(context: Sequence[str]) -> tuple[str, ...]:
    """Return turns that a reply of the model follows: of an even number, all but the first."""
    return tuple(context[1 - len(context) % 2 :])


def in_drawn_order(texts: Sequence[str], key: str) -> list[str]:
    """Return texts in an order that a hash of them and of a key decides."""
    return sorted(texts, key=lambda text: fraction(f"{key}\n{text}"))


def _of_daily(where: str, data: dict[str, Any], replies: int) -> Iterator[Read]:
    context, good = data["context"], data["positive_responses"]
    for name, texts in (("context", context), ("positive_responses", good)):
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            yield Unfit(where, f"{name} is {str(texts)[:40]!r} and no list of texts")
            return
    turns = before_reply(context)
    for reply in in_drawn_order(good, "\n".join(context))[:replies]:
        yield _checked(where, [*turns, reply])


def _of_messages(where: str, messages: Any) -> Read:
    if not isinstance(messages, list) or not messages:
        return Unfit(where, f"{str(messages)[:40]!r} is no list of messages: write {_MESSAGES}")
    system, turns = "", list[str]()
    for number, message in enumerate(messages, 1):
        role, content = (message.get("role"), message.get("content")) if isinstance(message, dict) else (None, None)
        if not isinstance(role, str) or not isinstance(content, str):
            return Unfit(where, f'turn {number} is no message: write {{"role": "user", "content": "..."}}')
        if number == 1 and role in ("system", "developer"):
            system = content
            continue
        wanted = ("assistant", "model") if len(turns) % 2 else ("user",)
        if role not in wanted:
            return Unfit(where, f"turn {number} is {_whose(role)}, where one of the {wanted[0]}'s is due")
        turns.append(content)
    return _checked(where, turns, system)


def _whose(role: str) -> str:
    known = role in ("user", "assistant", "model", "system", "developer")
    return f"the {role}'s" if known else f"by {role[:20]!r}, who is neither user nor assistant"


def _checked(where: str, turns: Sequence[str], system: str = "") -> Read:
    """Return a dialogue, unless a turn is empty or the model says nothing."""
    blank = next((number for number, turn in enumerate(turns, 1 + bool(system)) if not turn.strip()), None)
    if blank is not None:
        return Unfit(where, f"turn {blank} is empty")
    if len(turns) < 2:
        return Unfit(where, "nobody answers: a dialogue has two turns or more")
    return Talk(where, tuple(mend(turn)[0] for turn in turns), mend(system)[0])


def _objects(path: Path) -> Iterator[tuple[str, Any] | Unfit]:
    """Yield what a JSON file or list holds, or the lines of a file, each with where it stands."""
    with opened(path) as file:
        text = file.read().decode("utf-8", "replace")
    if path.suffix.lower() == ".json" and (whole := _json(text)) is not None:
        items = [whole] if not isinstance(whole, list) or _is_message(whole[:1]) else whole
        yield from ((f"{path.name} item {number}", item) for number, item in enumerate(items, 1))
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            where, data = f"{path.name} line {number}", _json(line)
            yield Unfit(where, f"{line.strip()[:40]!r} is not JSON") if data is None else (where, data)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_message(first: list[Any]) -> bool:
    """Return whether a list begins with a message, so that it is one dialogue and not several."""
    return bool(first) and isinstance(first[0], dict) and "role" in first[0]
