"""Sort: numbers, and the same numbers in order."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from etude.text.corpora._task import MARK, Problem, Task


@dataclass(frozen=True)
class Sorting(Task):
    """Numbers from 0, and after the mark the same numbers from the smallest to the largest: `3 1 2 > 1 2 3`. The
    numbers cost log2(symbols) each, how many there are log2 of how many lengths there are; the answer costs nothing.

    Attributes:
        seed: which problems.
        problems: how many, in the three splits together; the same one may come twice. No question is in two splits,
            though the same numbers in another order may be.
        symbols: how many different numbers there are, from 0.
        shortest: least number of numbers in a question.
        longest: greatest number; each between is as likely.
    """

    most_symbols: ClassVar[int] = 1000

    symbols: int = 10

    def draw(self, numbers: random.Random) -> Problem:
        sequence = self._sequence(numbers)
        question, answer = (" ".join(map(str, order)) for order in (sequence, sorted(sequence)))
        return Problem(question, MARK + answer, self.bits(len(sequence)))

    def choices(self, length: int) -> int:
        return self.symbols**length
