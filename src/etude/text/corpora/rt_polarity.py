"""Sentence polarity: snippets of film reviews, positive or negative (Pang and Lee 2005)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etude.core.errors import UsageError
from etude.core.spec import cosmetic
from etude.text.corpora._labelled import label_of, sameness
from etude.text.corpora.base import Corpus, Document, at_least_one
from etude.text.places import Place, content_hash
from etude.text.reading import columns, invalid_bytes, lines, text_of
from etude.text.splits import check_split, fraction

_LAYOUT = (
    "rt-polarity.neg and rt-polarity.pos, a review a line (UTF-8 copies in a folder utf8 come first), or Parquet with"
    " text and label"
)
_ENDINGS = ("neg", "pos")
"""By label."""


@dataclass(frozen=True)
class RtPolarity(Corpus):
    """Sentence polarity v1.0: 10,662 sentences of film reviews, half of them negative (label 0), half positive (1).

    The data come without splits. A hash of a sentence's words says which it is in, so sentences of the same words stay
    together and a longer file moves none; published figures come from ten-fold cross-validation or a random tenth.
    (Parquet files come divided; here the hash decides too.)
    Files are UTF-8, or else Windows-1252, as the original's are: Latin-1 with dashes and quotation marks added.

    Attributes:
        path: the folder with the two files, or `hub` to fetch them.
        held_out: share of the sentences in `valid`, and in `test`.
    """

    path: str = cosmetic("")
    held_out: float = 0.1

    def check(self) -> None:
        if not 0 < self.held_out < 0.5:
            raise UsageError(f"rt-polarity.held_out = {self.held_out}: give a share above 0 and below 0.5")

    @property
    def classes(self) -> tuple[str, ...]:
        """The two polarities."""
        return ("negative", "positive")

    def documents(self, split: str) -> Iterator[Document]:
        check_split(split)
        self.check_identity()
        rows = (document for document, text in self._rows() if self._split(text) == split)
        yield from at_least_one(rows, f"the {split} split of {self.path!r} is empty: give files with more lines")

    def identity(self) -> str:
        return content_hash("rt-polarity 1", self._files())

    def about(self) -> dict[str, Any]:
        labels = Counter(document.label for document, _ in self._rows())
        return {
            "licence": "research use, as its authors state; the sentences are their reviewers'",
            "source": "sentence polarity dataset v1.0 (Pang and Lee 2005), snippets from Rotten Tomatoes",
            "rows": {name: labels[label] for label, name in enumerate(self.classes)},
            "encodings": sorted({_encoding(path) for _, path in self._files()}),
            **self._folder().origin,
        }

    def size(self, split: str) -> int:
        share = {"train": 1 - 2 * self.held_out}.get(check_split(split), self.held_out)
        files = self._files()
        known = all(part in _ENDINGS for part, _ in files)
        return round(share * sum(path.stat().st_size for _, path in files)) if known else 0

    def _folder(self) -> Place:
        return Place(self.name, self.path, _LAYOUT)

    def _files(self) -> list[tuple[str, Path]]:
        """Return the files, each with its part: the two endings, UTF-8 copies first; else Parquet's, by their names."""
        place = self._folder()
        tables = place.matching(r".*\.parquet")
        named = [place.matching(rf"rt-polarity\.{ending}(\.txt)?") for ending in _ENDINGS]
        if tables and not any(named):
            return [("table", path) for path in tables.values()]
        copies = [{name: file for name, file in found.items() if "utf8/" in f"/{name}"} for found in named]
        chosen = copies if all(copies) else named
        if not all(chosen):
            raise place.missing(f"rt-polarity.{'pos' if chosen[0] else 'neg'}")
        nearest = [files[min(files, key=lambda name: (name.count("/"), name))] for files in chosen]
        return list(zip(_ENDINGS, nearest, strict=True))

    def _rows(self) -> Iterator[tuple[Document, str]]:
        """Yield every sentence, as a document and as its text."""
        for part, path in self._files():
            for number, (text, label) in enumerate(_read(part, path, self.classes), 1):
                if text:
                    yield Document(f"{path.name} line {number}", [text], label), text

    def _split(self, text: str) -> str:
        at = fraction(sameness(text))
        if at < self.held_out:
            return "test"
        return "valid" if at < 2 * self.held_out else "train"


def _read(part: str, path: Path, classes: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    if part in _ENDINGS:
        yield from ((line.strip(), _ENDINGS.index(part)) for line in lines(path, _encoding(path)))
        return
    for number, (text, label) in enumerate(columns(path, ("text", "label")), 1):
        yield text_of(path, number, text).strip(), label_of(label, 0, classes, f"{path.name} row {number}")


def _encoding(path: Path) -> str:
    return "cp1252" if path.suffix != ".parquet" and invalid_bytes(path) else "utf-8"
