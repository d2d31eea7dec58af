"""A conversation in a file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etude.chat.dialogue import Dialogue
from etude.chat.prompts.base import Prompt
from etude.core.errors import UsageError
from etude.core.files import write_json
from etude.models.sampling import Sampling

FORM = 1
"""Of the file, under the key `conversation`."""


@dataclass(frozen=True)
class Saved:
    """What a file holds.

    Attributes:
        dialogue: what was said.
        prompt: what the model read first; None where the file does not say.
        sampling: how it wrote; None where the file does not say.
        system: what came before the prompt.
        drawn: replies that were asked for.
    """

    dialogue: Dialogue
    prompt: Prompt | None = None
    sampling: Sampling | None = None
    system: str = ""
    drawn: int = 0


def write_saved(path: Path, saved: Saved) -> None:
    """Write a conversation as JSON, in one step.

    Raises:
        UsageError: a file stands there that is no conversation.
        OSError: it cannot be written.
    """
    if path.exists() and path.stat().st_size:
        try:
            read_saved(path)
        except (UsageError, OSError):
            raise UsageError(f"{str(path)!r} is there and is no conversation: choose another name") from None
    data: dict[str, Any] = {"conversation": FORM, "messages": saved.dialogue.messages()}
    if saved.prompt is not None:
        data["prompt"] = saved.prompt.to_json()
    if saved.sampling is not None:
        data["sampling"] = saved.sampling.to_json()
    write_json(path, data | {"system": saved.system, "drawn": saved.drawn})


def read_saved(path: Path) -> Saved:
    """Read a conversation, or a list of messages in OpenAI's form, whose first may be the system's.

    Raises:
        UsageError: it is neither, or its turns are out of order.
        DamagedError: its prompt or sampling is of another version.
        OSError: it cannot be read.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise UsageError(f"{str(path)!r} is no conversation: it is not JSON") from None
    if isinstance(data, list):
        system, rest = parted(data)
        return Saved(Dialogue.from_messages(rest), system=system)
    if not isinstance(data, dict) or data.get("conversation") != FORM or "messages" not in data:
        raise UsageError(
            f'{str(path)!r} is no conversation: it holds neither what was saved nor [{{"role": "user", ...}}]'
        )
    system, drawn = data.get("system", ""), data.get("drawn", 0)
    if not isinstance(system, str) or type(drawn) is not int or drawn < 0:
        raise UsageError(f"{str(path)!r} was changed: system is text, and drawn a whole number")
    return Saved(
        Dialogue.from_messages(data["messages"]),
        Prompt.from_json(data["prompt"]) if "prompt" in data else None,
        Sampling.from_json(data["sampling"]) if "sampling" in data else None,
        system,
        drawn,
    )


def parted(messages: list[Any]) -> tuple[str, list[Any]]:
    """Return what the system says and the other messages. It may say something in the first alone."""
    first = messages[0] if messages else None
    if isinstance(first, dict) and first.get("role") in ("system", "developer"):
        if not isinstance(first.get("content"), str):
            raise UsageError("what the system says is no text")
        return first["content"], messages[1:]
    return "", messages
