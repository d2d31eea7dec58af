"""What goes to standard error: one line for what went wrong, and remarks. cyclopts' own errors are put in our words."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from typing import Any

from cyclopts.exceptions import (
    CycloptsError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from etude.core.errors import unknown


def complain(message: str) -> None:
    """Say in one line what went wrong."""
    print(f"etude: {' '.join(message.split())}", file=sys.stderr, flush=True)


def remark(message: str) -> None:
    """Say something that is not the answer."""
    print(message, file=sys.stderr, flush=True)


def help_style() -> dict[str, Any]:
    """Return how cyclopts draws help: with frames on a terminal, else as plain lines of whatever length."""
    if sys.stdout.isatty():
        return {}
    from rich.console import Console

    return {"help_formatter": "plain", "console": Console(width=10_000, soft_wrap=True)}


def explain(error: CycloptsError, verbs: Iterable[str]) -> str:
    """Return a wrong use that cyclopts found as one line with the remedy."""
    error.verbose = False
    place = _place(error)
    remedy = f"See: {place} --help"
    match error:
        case UnknownCommandError(unused_tokens=[word, *_]) if place == "etude":
            return str(unknown("verb", word, verbs, see="etude --help"))
        case UnknownCommandError(unused_tokens=[word, *_]) | UnusedCliTokensError(unused_tokens=[word, *_]):
            return f"unexpected {word!r}. {remedy}"
        case UnknownOptionError():
            names = [n for a in error.argument_collection if a.parse for n in a.names if n.startswith("-")]
            word = error.token.keyword or error.token.value
            return f"unknown flag {word}{nearest_flag(word, names)} {remedy}"
        case MissingArgumentError(argument=argument) if argument is not None:
            name = error.keyword or argument.name
            if name.startswith("-"):
                return f"{name} needs a value. {remedy}"
            return f"{name} is missing. {remedy}"
        case RepeatArgumentError(token=token):
            return f"{token.keyword} is given more than once. {remedy}"
        case _:
            return f"{str(error).rstrip('.')}. {remedy}"


def nearest_flag(word: str, names: Iterable[str]) -> str:
    """Return a hint at the flag that was meant, or a full stop. Last parts first: `--widht` means `--model.width`."""
    asked = word.partition("=")[0].replace("_", "-").lstrip("-")
    by_end: dict[str, list[str]] = {}
    for name in names:
        by_end.setdefault(name.lstrip("-").rpartition(".")[2], []).append(name)
    ends = difflib.get_close_matches(asked.rpartition(".")[2], by_end, n=1, cutoff=0.75)
    likely = by_end[ends[0]] if ends else [name for alike in by_end.values() for name in alike]
    alike = difflib.get_close_matches(f"--{asked}", likely, n=1, cutoff=0.0 if ends else 0.7)
    return f": did you mean {alike[0]}?" if alike else "."


def _place(error: CycloptsError) -> str:
    """Return the command that was being read, as in `etude runs name`."""
    begun = error.app.name[0] if error.app and error.app.name and error.app.name[0].startswith("etude") else "etude"
    return " ".join([begun, *(error.command_chain or ())])
