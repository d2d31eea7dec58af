"""Tiny Shakespeare: a megabyte of his plays in one file (Karpathy 2015)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etude.core.errors import UsageError
from etude.core.spec import cosmetic
from etude.text.corpora.base import Corpus, Document
from etude.text.places import Place, content_hash, split_named
from etude.text.reading import columns, stretches, text_of
from etude.text.splits import SPLITS, check_split

_TEXT = r"(input|tiny_?shakespeare)\.txt"

_TWENTIETHS = {"train": (0, 18), "valid": (18, 19), "test": (19, 20)}
"""Which twentieths of the characters each split has: the usual 90%, and the usual last 10% in two halves."""


@dataclass(frozen=True)
class Tinyshakespeare(Corpus):
    """Tiny Shakespeare, 1,115,394 characters: the first 90% are `train`, as is usual, and the last 10%, the usual
    validation text, are `valid` and `test`, half each.

    Each split is one document, cut at that very character as is usual, within a word if it falls there. Plays and
    speeches are not told apart: a speech begins with its speaker's name on a line, after an empty line.

    Attributes:
        path: the file `input.txt`, or its folder, or `hub` to fetch it.
    """

    path: str = cosmetic("")

    def documents(self, split: str) -> Iterator[Document]:
        check_split(split)
        self.check_identity()
        count = self._count()
        start, stop = (count * share // 20 for share in _TWENTIETHS[split])
        if start == stop:
            raise UsageError(f"the {split} split of {self.path!r} is empty: give the whole text")
        yield Document(f"tinyshakespeare {split}", _between(self._stretches(), start, stop))

    def identity(self) -> str:
        return content_hash("tinyshakespeare 1", self._files())

    def about(self) -> dict[str, Any]:
        return {
            "licence": "public domain",
            "source": "tiny Shakespeare (Karpathy 2015): parts of the plays, as char-rnn has them",
            "characters": self._count(),
            **self._folder().origin,
        }

    def size(self, split: str) -> int:
        start, stop = _TWENTIETHS[check_split(split)]
        sizes = [path.stat().st_size if part == "text" else 0 for part, path in self._files()]
        return sum(sizes) * (stop - start) // 20

    def _folder(self) -> Place:
        return Place(self.name, self.path, "input.txt, or Parquet files named train, validation and test")

    def _files(self) -> list[tuple[str, Path]]:
        """Return the file, or the parts of it in their order."""
        place = self._folder()
        if place.root.is_file() and place.root.suffix.lower() != ".parquet":
            return [("text", place.root)]
        tables = {split_named(name): path for name, path in place.matching(r".*\.parquet").items()}
        if set(SPLITS) <= set(tables) and not place.matching(_TEXT):
            return [(split, tables[split]) for split in SPLITS]
        return [("text", place.one(_TEXT, "input.txt"))]

    def _stretches(self) -> Iterator[str]:
        for part, path in self._files():
            yield from stretches(path) if part == "text" else _column(path)

    def _count(self) -> int:
        return sum(map(len, self._stretches()))


def _column(path: Path) -> Iterator[str]:
    return (text_of(path, number, text) for number, (text,) in enumerate(columns(path, ["text"]), 1))


def _between(texts: Iterator[str], start: int, stop: int) -> Iterator[str]:
    """Yield the characters from one place to another of consecutive texts."""
    at = 0
    for text in texts:
        if at < stop and at + len(text) > start:
            yield text[max(start - at, 0) : stop - at]
        at += len(text)
