"""Whether position vectors are sines and cosines of the right angles, each in its column."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from etude.practice.exam import Exam

AXES = ("position", "column")

Entry = Callable[[int, int, int], float]
"""From position, column and width to a number."""


def check(theirs: Any, exam: Exam) -> None:
    """Ask for several lengths and widths: the entries, and that products of vectors hang on their distance alone."""
    half, long = exam.random.randint(3, 8), exam.random.randint(20, 40)
    for T, D in ((3, 4), (exam.random.randint(4, 9), 2 * half), (long, 4 * half), (1, 2 * half), (long, 2)):
        got = theirs.sinusoidal_positions(T, D)
        exam.shaped(got, (T, D), "your table", AXES)
        exam.same(
            got,
            _table(T, D, _right),
            "your table",
            axes=AXES,
            unless={why: _table(T, D, entry) for why, entry in MISTAKES.items()},
        )
        products = got @ got.mT
        exam.same(
            products[1:, 1:],
            products[:-1, :-1],
            "the inner products of your vectors, each position one later (they should hang on the distance alone)",
            tolerance=1e-3 * D,
        )


def _table(T: int, D: int, entry: Entry) -> Tensor:
    return torch.tensor([[entry(position, column, D) for column in range(D)] for position in range(T)])


def _wave(angle: float, odd: int) -> float:
    return math.cos(angle) if odd else math.sin(angle)


def _right(position: int, column: int, D: int) -> float:
    return _wave(position / 10000 ** (2 * (column // 2) / D), column % 2)


MISTAKES: dict[str, Entry] = {
    "sine and cosine change places: even columns hold sines, odd ones cosines, so that row 0 is 0, 1, 0, 1, ...": (
        lambda p, c, D: _wave(p / 10000 ** (2 * (c // 2) / D), 1 - c % 2)
    ),
    "all sines stand before all cosines: columns 2i and 2i + 1 belong together, a sine and a cosine by turns": (
        lambda p, c, D: _wave(p / 10000 ** (2 * (c % (D // 2)) / D), c // (D // 2))
    ),
    "the exponent is half of what it should be: pair i has 2i / D": (
        lambda p, c, D: _wave(p / 10000 ** ((c // 2) / D), c % 2)
    ),
    "the exponent is twice what it should be: the sine of pair i stands in column 2i, and the exponent is 2i / D": (
        lambda p, c, D: _wave(p / 10000 ** (4 * (c // 2) / D), c % 2)
    ),
    "each column has an angle of its own: columns 2i and 2i + 1 have the same one, with exponent 2i / D": (
        lambda p, c, D: _wave(p / 10000 ** (c / D), c % 2)
    ),
    "each column has an angle of its own, with twice the exponent: columns 2i and 2i + 1 have the same, 2i / D": (
        lambda p, c, D: _wave(p / 10000 ** (2 * c / D), c % 2)
    ),
    "the base is 1000: it is 10000": lambda p, c, D: _wave(p / 1000 ** (2 * (c // 2) / D), c % 2),
    "your pairs turn faster and faster: the angle is divided by the power of 10000": (
        lambda p, c, D: _wave(p * 10000 ** (2 * (c // 2) / D), c % 2)
    ),
    "positions are counted from 0: your row 0 is that of position 1": lambda p, c, D: _right(p + 1, c, D),
    "your angles are in degrees: they are radians": (
        lambda p, c, D: _wave(math.radians(p / 10000 ** (2 * (c // 2) / D)), c % 2)
    ),
    "every column is a sine: odd columns hold cosines": lambda p, c, D: _wave(p / 10000 ** (2 * (c // 2) / D), 0),
}
