"""Text that is safe to show: what a terminal or an eye would not see as a letter is written out."""

from __future__ import annotations

import unicodedata

UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's categories of controls (escape and C1 among them), of formatting (which turns the direction of writing
round, or hides), of lone surrogates, and of line and paragraph separators."""

KEPT = frozenset("\n\t\u200c\u200d")
"""Line end, tab, and the two joiners that some scripts and emoji are written with."""


def visible(text: str) -> str:
    r"""Return a text that can be shown: what acts on a terminal instead of being read is spelled, as in `\x1b[2J`.

    Each character is looked at by itself, so that pieces may be shown as they come.
    """
    return "".join(c if c in KEPT or unicodedata.category(c) not in UNSEEN else _spelled(c) for c in text)


def _spelled(character: str) -> str:
    return character.encode("unicode_escape").decode()
