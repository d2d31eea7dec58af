"""The first tokens of an article, as the original experiment on wiki40b took them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from etude.text.corpora.base import Document
from etude.text.pieces import pieces
from etude.text.recipes import PARAGRAPH
from etude.text.tokenizers.live import Tokenizer

_CHARACTERS_A_TOKEN = 64


def opening(document: Document, tokenizer: Tokenizer, n: int) -> list[int]:
    """Return the first n tokens of a document's text after its first paragraph mark and the line end that belongs to
    it: fewer where the text is shorter, none where there is no mark.

    They are the tokens that the whole text would have. Of a long document no more is read than is needed, or all of it
    where the tokenizer does not work by pieces.
    """
    ids: list[int] = []
    if not tokenizer.by_piece:
        return tokenizer.encode("".join(after_mark(document.pieces)))[:n]
    for piece in pieces(after_mark(document.pieces), n * _CHARACTERS_A_TOKEN):
        ids += tokenizer.encode(piece)
        if len(ids) >= n:
            break
    return ids[:n]


def after_mark(stretches: Iterable[str]) -> Iterator[str]:
    """Yield what follows the first paragraph mark, holding no more than one stretch at a time."""
    mark = PARAGRAPH + "\n"
    held, found = "", False
    for stretch in stretches:
        if found:
            yield stretch
            continue
        held = held[-len(mark) :] + stretch
        _, found_mark, rest = held.partition(mark)
        found = bool(found_mark)
        if rest:
            yield rest
