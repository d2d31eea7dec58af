"""A conversation at a terminal, or with a line on standard input for each turn."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from etude.cli.complaints import complain, remark
from etude.cli.console import say
from etude.cli.fields import fields_of, no_recipe
from etude.cli.last_token import show_last_token
from etude.core.errors import EtudeError, UsageError, unknown
from etude.models.sampling import Sampling
from etude.text.visible import visible

if TYPE_CHECKING:
    from etude.chat.session import Reply, Session

HELP = """/regenerate          write the last reply anew
/undo                take the last turn back
/save FILE           keep the conversation
/load FILE           go on with one that was kept
/set NAME VALUE      change the sampling, as in /set temperature 0.7; /set alone shows it
/look                lens and attention of the end of the last reply
/help                this list
/quit                leave; so does the end of input
//...                say something that begins with /"""


class Conversation:
    """What a person and a session say to each other.

    Args:
        session: the conversation.
        look: whether lens and attention are shown after each reply.
        typed: whether a person types; else lines come from a program or file, and an error ends the conversation.

    Raises:
        UsageError: the model cannot be looked into and that is asked for.
    """

    def __init__(self, session: Session, *, look: bool = False, typed: bool | None = None) -> None:
        self.session, self.looks, self.left_out = session, look, 0
        self.typed = sys.stdin.isatty() if typed is None else typed
        self.commands: dict[str, Callable[[Sequence[str]], None]] = {
            "regenerate": self._regenerate,
            "undo": self._undo,
            "save": lambda words: self.session.save(_file(words, "save")),
            "load": self._load,
            "set": self._set,
            "look": lambda _: show_last_token(self.session),
            "help": lambda _: say(HELP),
        }
        if look:
            from etude.interp.subject import decoder_of

            decoder_of(session.model)
        if self.typed:
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401 (input() then edits lines)

    def go_on(self) -> None:
        """Take turns until the input ends or the person leaves."""
        while (line := self._line()) is not None and line.strip() != "/quit":
            try:
                self._take(line)
            except BrokenPipeError:
                raise
            except (EtudeError, OSError) as error:
                message = visible(_told_of(error))
                if not self.typed:
                    raise (UsageError if isinstance(error, UsageError) else EtudeError)(message) from error
                complain(message)

    def show(self) -> None:
        """Print what was said so far."""
        marks, story = self.session.prompt.marks, self.session.prompt.story
        for turn in self.session.dialogue.turns:
            mark = marks.user if turn.role == "user" else marks.model
            say(_encodable(visible(turn.text if story else f"{mark} {turn.text}")))

    def _line(self) -> str | None:
        """Return the next line, or None at the end."""
        while True:
            try:
                if self.typed:
                    return input("> ")
                line = sys.stdin.buffer.readline()
                return line.decode("utf-8", "replace").rstrip("\r\n") if line else None
            except EOFError:
                say()
                return None
            except UnicodeDecodeError:
                complain("that line is not UTF-8")
            except KeyboardInterrupt:
                if not self.typed:
                    return None
                remark("\n/quit leaves")

    def _take(self, line: str) -> None:
        """Do what a line asks for, or say it to the model."""
        text = line.strip()
        if text.startswith("/") and not text.startswith("//"):
            name, *words = text[1:].split() or [""]
            if name not in self.commands:
                listed = unknown("command", f"/{name}", [f"/{each}" for each in (*self.commands, "quit")])
                raise UsageError(f"{listed} To say it, begin with //")
            self.commands[name](words)
        elif text or self.session.prompt.story:
            self._answer(self.session.say(text.removeprefix("/") if text.startswith("//") else text))

    def _answer(self, reply: Reply) -> None:
        """Print a reply as it comes. Ctrl-C ends it, and what was written stays."""
        with contextlib.closing(reply):
            try:
                for piece in reply:
                    print(_encodable(visible(piece)), end="", flush=True)
                say()
            except KeyboardInterrupt:
                say()
                remark("(stopped)")
                return
        self._say_left_out()
        if self.looks:
            show_last_token(self.session)

    def _say_left_out(self) -> None:
        left_out = self.session.told.left_out if self.session.told else 0
        if left_out and left_out != self.left_out:
            what = "words" if self.session.prompt.story else "exchanges" if left_out > 1 else "exchange"
            remark(f"(the first {left_out:,} {what} no longer fit the model's context)")
        self.left_out = left_out

    def _regenerate(self, words: Sequence[str]) -> None:
        self._answer(self.session.regenerate())

    def _undo(self, words: Sequence[str]) -> None:
        self.session.undo()
        remark(f"({len(self.session.dialogue)} turns are left)")

    def _load(self, words: Sequence[str]) -> None:
        self.session.restore(_file(words, "load"))
        self.show()

    def _set(self, words: Sequence[str]) -> None:
        fields = {field.path[-1].replace("_", "-"): field for field in fields_of(Sampling, self.session.sampling, ())}
        if not words:
            for name, field in fields.items():
                say(f"{name} {visible(field.written(field.default))}")
            return
        name, *values = words
        name = name.replace("_", "-")
        if name not in fields:
            raise unknown("setting", name, fields)
        if not values:
            raise UsageError(f"/set {name} needs a value")
        self.session.adjust(**{fields[name].path[-1]: fields[name].read(values, no_recipe)})


def _file(words: Sequence[str], verb: str) -> Path:
    if not words:
        raise UsageError(f"/{verb} needs the name of a file")
    return Path(" ".join(words)).expanduser()


def _told_of(error: EtudeError | OSError) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error)


def _encodable(text: str) -> str:
    """Return a text with what standard output cannot write spelled out."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
