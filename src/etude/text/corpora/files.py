"""A person's own text: a file, or a folder of files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etude.core.errors import UsageError
from etude.core.spec import cosmetic
from etude.text.corpora._files_layout import Source, layout
from etude.text.corpora.base import Corpus, Document
from etude.text.reading import rows, stretches
from etude.text.splits import check_split, fraction


@dataclass(frozen=True)
class Files(Corpus):
    """Text from txt, md, jsonl, json, csv or parquet files, read as a stream, so that their size does not matter.

    A txt or md file is one document; each line of a jsonl file, row of a table and item of a json list (wiki40b's
    format among them) is one. Files named train, valid and test keep their split; else texts are split by their hash,
    and fewer than twenty single texts are each divided 90 : 5 : 5 by length, after a word. Bytes that are not UTF-8
    are replaced by U+FFFD and counted.

    Not covered: compressed files, and separators inside a text file (a txt file is one document, however long).

    Attributes:
        path: the file or folder. It does not enter the fingerprint: the content does.
        text_field: the key (jsonl, json) or column (csv, parquet) that holds the text. For csv without a header line,
            the column's number, from 1.
    """

    path: str = cosmetic("")
    text_field: str = "text"

    def documents(self, split: str) -> Iterator[Document]:
        check_split(split)
        self.check_identity()
        empty = True
        for document in self._documents(split):
            empty = False
            yield document
        if empty:
            raise UsageError(
                f"the {split} split of {self.path!r} is empty: give more text, or a folder with files named train,"
                " valid and test"
            )

    def identity(self) -> str:
        parts = (f"{s.sha256} {s.path.suffix.lower()} {s.shares!r}" for s in layout(self.path))
        return hashlib.sha256("\n".join(("files 1", *parts)).encode()).hexdigest()

    def about(self) -> dict[str, Any]:
        sources = layout(self.path)
        return {
            "licence": "unknown: the files are yours",
            "files": len(sources),
            "bytes": sum(_size(source) for source in sources),
            "replaced": sum(source.invalid for source in sources),
        }

    def size(self, split: str) -> int:
        shares = [(s, stop - start) for s in layout(self.path) for name, start, stop in s.shares if name == split]
        if any(source.path.suffix.lower() == ".parquet" for source, _ in shares):
            return 0  # compressed, by a factor that only reading tells
        return round(sum(_size(source) * share for source, share in shares))

    def _documents(self, split: str) -> Iterator[Document]:
        for source in layout(self.path):
            for name, start, stop in source.shares:
                if name == split:
                    yield from self._of_source(source, start, stop)

    def _of_source(self, source: Source, start: float, stop: float) -> Iterator[Document]:
        if source.is_text:
            if any(text.strip() for text in stretches(source.path, start, stop)):
                yield Document(source.name, stretches(source.path, start, stop))
            return
        for number, text in enumerate(rows(source.path, self.text_field), 1):
            if start <= fraction(text) < stop:
                yield Document(f"{source.name}:{number}", [text])


def _size(source: Source) -> int:
    return Path(source.path).stat().st_size
