"""Dialogues in chatterbot's YAML: a list of lists of texts under `conversations:`.

Read by hand, since nothing else here needs YAML: texts may be plain, quoted, or blocks (`|`, `>`). Not covered:
anchors, tags, and lists or mappings in flow style, which are refused with the line that has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from etude.core.errors import UsageError
from etude.text.reading import lines

_DASH = re.compile(r"( *)-(?: +|$)(.*)", re.DOTALL)
_BLOCK = re.compile(r"([|>])[-+1-9]{0,2}(?:\s+#.*)?\s*")
_SINGLE = re.compile(r"'((?:[^']|'')*)'\s*(?:#.*)?")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?', re.DOTALL)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_ESCAPED_END = re.compile(r"(?<!\\)((?:\\\\)*)\\\n *")
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "a": "\a", "b": "\b", "e": "\x1b", "f": "\f", "v": "\v"}
_ESCAPED |= {"_": "\xa0", "N": "\x85", "L": "\u2028", "P": "\u2029", **dict.fromkeys(' "/\\')}  # stand for themselves
_NOT_PLAIN = "&*!%@`[]{},|>#?"


class Conversation(NamedTuple):
    """A dialogue of a file.

    Attributes:
        line: that it begins on, from 1.
        turns: what is said, in order.
        problem: why it is none, or nothing.
    """

    line: int
    turns: list[str]
    problem: str = ""


def conversations(path: Path) -> Iterator[Conversation]:
    """Yield the dialogues of a file. A text where a list of turns is wanted is one with a problem.

    Raises:
        UsageError: the file cannot be read, or a line is none of such a list; the message has its number.
    """
    rows = enumerate((line.rstrip("\r\n") for line in lines(path)), 1)
    for _, line in rows:
        if line.split("#")[0].rstrip() == "conversations:":
            yield from _Conversations(path).read(rows)
            return
    raise UsageError(f"{path.name} has no line `conversations:`, after which chatterbot's dialogues stand")


class _Conversations:
    """The list after `conversations:`, line by line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._outer = self._inner = -1
        self._began, self._turns, self._problem = 0, list[str](), ""
        self._number, self._held = 0, list[str]()  # the turn that is being read: its line, and its lines

    def read(self, rows: Iterator[tuple[int, str]]) -> Iterator[Conversation]:
        for number, line in rows:
            indent = len(line) - len(line.lstrip(" "))
            dash = _DASH.fullmatch(line)
            blank = not line.strip()
            if self._held and (blank or indent > self._inner):
                self._held.append(line)
            elif blank or line.lstrip().startswith("#"):
                continue
            elif dash and indent == (self._outer if self._outer >= 0 else indent):
                yield from self._ended()
                self._outer, self._began = indent, number
                self._first(number, indent, dash)
            elif dash and indent == (self._inner if self._inner >= 0 else indent):
                self._inner = indent
                self._end_turn()
                self._number, self._held = number, [dash[2]]
            elif indent == 0 and re.match(r"[\w-]+:", line):
                break  # another key of the file
            else:
                raise self._wrong(number, f"{line.strip()[:40]!r} is no turn: write `- - TEXT`, then `  - TEXT`")
        yield from self._ended()

    def _first(self, number: int, indent: int, dash: re.Match[str]) -> None:
        """Begin a dialogue, on a line that may hold its first turn."""
        self._inner = -1
        if not dash[2].strip():
            return
        inner = _DASH.fullmatch(" " * dash.start(2) + dash[2])
        if inner is None:
            self._problem = f"{dash[2][:40]!r} is a text, and a list of turns is wanted: write `- - TEXT`"
            return
        self._inner = dash.start(2)
        self._number, self._held = number, [inner[2]]

    def _ended(self) -> Iterator[Conversation]:
        self._end_turn()
        if self._began:
            yield Conversation(self._began, self._turns, self._problem)
        self._turns, self._problem = [], ""

    def _end_turn(self) -> None:
        if self._held:
            self._turns.append(self._text(self._number, self._held))
            self._held = []

    def _text(self, number: int, held: list[str]) -> str:
        """Return the text of a turn: what stands after its dash, and the lines below it."""
        first, rest = held[0].strip(), held[1:]
        if block := _BLOCK.fullmatch(first):
            return _block(block[1], rest)
        if first[:1] == '"':  # in which a line end after a backslash is none
            first, *rest = _ESCAPED_END.sub(r"\1", "\n".join([first, *rest])).split("\n")
        folded = _folded([first, *rest])
        if first[:1] in ("'", '"'):
            quoted = (_SINGLE if first[0] == "'" else _DOUBLE).fullmatch(folded)
            if quoted is None:
                raise self._wrong(number, f"the quotation {first[:40]!r} does not end, or something follows it")
            return quoted[1].replace("''", "'") if first[0] == "'" else self._unescaped(number, quoted[1])
        plain = re.split(r"(?:^|\s)#", folded)[0].strip()
        if plain[:1] and plain[0] in _NOT_PLAIN:
            raise self._wrong(number, f"a text that begins with {plain[0]!r} stands in quotation marks")
        return plain

    def _unescaped(self, number: int, text: str) -> str:
        def put(found: re.Match[str]) -> str:
            code = found[1]
            if code[0] in "xuU" and len(code) > 1:
                return chr(int(code[1:], 16))
            if code not in _ESCAPED:
                raise self._wrong(number, f"\\{code} is no escape of YAML")
            return _ESCAPED[code] or code

        return _ESCAPE.sub(put, text)

    def _wrong(self, number: int, what: str) -> UsageError:
        return UsageError(f"{self.path.name} line {number}: {what}")


def _block(kind: str, rows: list[str]) -> str:
    """Return the text of a block: its lines as they stand, or folded."""
    depth = next((len(row) - len(row.lstrip(" ")) for row in rows if row.strip()), 0)
    body = [row[depth:] for row in rows]
    return "\n".join(body).strip("\n") if kind == "|" else _folded(body)


def _folded(rows: list[str]) -> str:
    """Return lines as one, with a line end for each blank line between them."""
    text = "\n".join(row.strip() for row in rows).strip()
    return re.sub(r"\n+", lambda found: "\n" * (len(found[0]) - 1) or " ", text)
