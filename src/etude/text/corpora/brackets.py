"""Balanced brackets: Dyck words."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import ClassVar

from etude.text.corpora._task import Problem, Task

_PAIRS = ("()", "[]", "{}", "<>")


@dataclass(frozen=True)
class Brackets(Task):
    """Brackets of several kinds, each closed in its turn: `([]{()})`. Of a length, each balanced string is as likely;
    there are Catalan(n) · symbols^n of n pairs. Which bracket closes is never in doubt, only whether one closes.

    Attributes:
        seed: which problems.
        problems: how many, in the three splits together; the same one may come twice. No string is in two splits.
        symbols: how many kinds of brackets there are, of `()`, `[]`, `{}` and `<>`.
        shortest: least number of pairs.
        longest: greatest number; each between is as likely.
    """

    most_symbols: ClassVar[int] = len(_PAIRS)

    symbols: int = 2

    def draw(self, numbers: random.Random) -> Problem:
        pairs = numbers.choice(self.lengths)
        text, open_pairs, left = "", [], 2 * pairs
        while left:
            depth = len(open_pairs)
            if numbers.randrange(ways(depth, left)) < ways(depth + 1, left - 1):
                open_pairs.append(_PAIRS[numbers.randrange(self.symbols)])
                text += open_pairs[-1][0]
            else:
                text += open_pairs.pop()[1]
            left -= 1
        return Problem(text, "", self.bits(pairs))

    def choices(self, length: int) -> int:
        return ways(0, 2 * length) * self.symbols**length


def ways(depth: int, left: int) -> int:
    """Return in how many ways `left` brackets of one kind can follow where `depth` are open, so that all are closed in
    the end: the ballot numbers, by reflection."""
    rise, odd = divmod(left - depth, 2)
    if odd or rise < 0:
        return 0
    return math.comb(left, rise) - (math.comb(left, rise - 1) if rise else 0)
