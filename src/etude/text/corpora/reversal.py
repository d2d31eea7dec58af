"""Reverse: letters, and the same letters backwards."""

from __future__ import annotations

import random
from dataclasses import dataclass

from etude.text.corpora._task import MARK, Problem, Task, letters


@dataclass(frozen=True)
class Reversal(Task):
    """Letters, and after the mark the same letters from the last to the first: `d b z > z b d`. The letters cost
    log2(symbols) each, their number log2 of how many lengths there are; the answer costs nothing.

    Attributes:
        seed: which problems.
        problems: how many, in the three splits together; the same one may come twice. No question is in two splits.
        symbols: how many letters of the alphabet there are.
        shortest: least number of letters in a question.
        longest: greatest number; each between is as likely.
    """

    def draw(self, numbers: random.Random) -> Problem:
        sequence = self._sequence(numbers)
        return Problem(letters(sequence), MARK + letters(sequence[::-1]), self.bits(len(sequence)))

    def choices(self, length: int) -> int:
        return self.symbols**length
