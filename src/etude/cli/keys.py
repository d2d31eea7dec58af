"""Keys as a person presses them, one by one at a terminal, or in lines from a program."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from etude.core.errors import UsageError

STAY, UP, RIGHT, DOWN, LEFT = range(5)
QUIT, OTHER = "q", ""
LETTERS = {" ": STAY, ".": STAY, "w": UP, "d": RIGHT, "s": DOWN, "a": LEFT}
ARROWS = {"A": UP, "C": RIGHT, "B": DOWN, "D": LEFT}

Key = int | str
"""An action, `QUIT`, or `OTHER` for a key that means nothing."""


@contextmanager
def pressed() -> Iterator[Iterator[Key]]:
    """Give the keys as they come. A terminal is read key by key and put back as it was, whatever happens.

    Raises:
        UsageError: a line from a program holds what is no key.
    """
    if not sys.stdin.isatty():
        yield _from_lines()
        return
    try:
        import termios
        import tty
    except ImportError:  # Windows, where a line of keys is typed
        yield _from_lines()
        return
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    try:
        tty.setcbreak(number)
        yield _from_terminal(number)
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


def _from_lines() -> Iterator[Key]:
    for line in sys.stdin:
        for letter in line.rstrip("\r\n").lower():
            if letter != QUIT and letter not in LETTERS:
                raise UsageError(f"unknown key {letter!r}: w, a, s and d go, a space or a full stop stays, q leaves")
            yield letter if letter == QUIT else LETTERS[letter]


def _from_terminal(number: int) -> Iterator[Key]:
    """Read keys; an arrow is an escape, `[` or `O`, and a letter, which may come in pieces."""
    waiting = ""
    while read := os.read(number, 64):
        waiting += read.decode("ascii", "replace")
        while waiting:
            if waiting in ("\x1b", "\x1b[", "\x1bO"):
                break
            if waiting[:2] in ("\x1b[", "\x1bO"):
                key, waiting = ARROWS.get(waiting[2]), waiting[3:]
            else:
                letter, waiting = waiting[0].lower(), waiting[1:]
                key = QUIT if letter in (QUIT, "\x04") else LETTERS.get(letter)
            yield OTHER if key is None else key
