"""Cutting text of any length into pieces that can be tokenised one by one.

A piece ends right before a space or line feed that follows a character which is not white space. GPT-2's
pre-tokenisation (and ours, which is the same) never matches across such a place, so the pieces' tokens, joined, are
the whole text's tokens. Not so for a tokenizer whose pattern takes line ends together with the punctuation before
them, as later ones do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

PIECE = 16 * 1024
"""Least length of a piece that is not a text's last, in characters."""

LONGEST = 1024 * 1024
"""Length at which a piece without any place to cut is cut all the same, so that memory stays bounded. A megabyte
without one space after a word is no text that a person wrote; there the tokens differ from the whole's by a few."""

_PLACE = re.compile(r"(?<=\S)[ \n]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def pieces(stretches: Iterable[str], size: int = PIECE, longest: int = LONGEST) -> Iterator[str]:
    """Yield the text of consecutive stretches in pieces. Where it is cut depends on the text alone, not on the
    stretches in which it came.

    Args:
        stretches: consecutive parts of one text, cut anywhere.
        size: least number of characters in each piece but the last.
        longest: greatest number of characters in a piece.
    """
    held, start = "", 0
    for stretch in stretches:
        held, start = held[start:] + stretch, 0
        while (end := _end(held, start, size, longest)) is not None:
            yield held[start:end]
            start = end
    if start < len(held):
        yield held[start:]


def _end(held: str, start: int, size: int, longest: int) -> int | None:
    """Return where the piece that begins at `start` ends, or None while that cannot be said yet."""
    limit = start + longest
    place = _PLACE.search(held, start + max(size, 1), limit)
    if place:
        return place.start()
    return limit if len(held) >= limit else None


def mend(text: str) -> tuple[str, int]:
    """Replace lone surrogates by U+FFFD. They stand for what is not Unicode: bytes that `surrogateescape` let through,
    or halves of a pair in JSON.

    Returns:
        the text, and how many were replaced: for decoded bytes, the number of invalid bytes.
    """
    return (text, 0) if text.isascii() else _SURROGATE.subn("\ufffd", text)
