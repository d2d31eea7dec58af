"""Repeated sequences: what induction heads are for."""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import dataclass
from typing import ClassVar

from etude.core.errors import UsageError
from etude.text.corpora._task import Problem, Task, letters


@dataclass(frozen=True)
class Repetition(Task):
    """Different letters in any order, and then the same again and again: `d b z d b z d b z`. How many there are before
    the first comes again is drawn for each document: with one period for all, a model learns to look back so many
    places, and not what came after the same letter before (the figures are in Etude's log).

    The first round costs what its letters and its length cost; all that follows costs nothing.

    Attributes:
        seed: which problems.
        problems: how many, in the three splits together; the same one may come twice. No round is in two splits.
        symbols: how many letters there are: a to z, then A to Z, the digits, + and /.
        shortest: least number of letters in a round.
        longest: greatest number; each between is as likely. The letters of a round differ, so it is at most `symbols`.
        total: how many letters a document has, the last round cut off there.
        spaced: whether a space stands between two letters. Without, and read in bytes, every token is a letter.
    """

    most_symbols: ClassVar[int] = 64

    total: int = 32
    spaced: bool = True

    def check(self) -> None:
        super().check()
        if self.longest > self.symbols:
            raise UsageError(
                f"repetition.longest = {self.longest} is more than symbols = {self.symbols}: the letters of a round"
                " differ"
            )
        if self.total <= self.longest:
            raise UsageError(
                f"repetition.total = {self.total} leaves no letter to repeat: give more than longest = {self.longest}"
            )

    def draw(self, numbers: random.Random) -> Problem:
        once = numbers.sample(range(self.symbols), numbers.choice(self.lengths))
        again = [once[place % len(once)] for place in range(len(once), self.total)]
        between = " " if self.spaced else ""
        return Problem(letters(once, between), between + letters(again, between), self.bits(len(once)))

    def choices(self, length: int) -> int:
        return math.perm(self.symbols, length)

    def identity(self) -> str:
        return hashlib.sha256(f"{super().identity()} {self.total}".encode()).hexdigest()
