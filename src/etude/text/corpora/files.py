"""A person's own text: a file, or a folder of files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from etude.core.spec import cosmetic
from etude.text.corpora._files_layout import KINDS, Source, documents, identity, layout, size, undivided
from etude.text.corpora.base import Corpus, Document, at_least_one
from etude.text.places import Place
from etude.text.reading import rows
from etude.text.splits import check_split


@dataclass(frozen=True)
class Files(Corpus):
    """Text from txt, md, jsonl, json, csv or parquet files, read as a stream, so that their size does not matter.

    A txt or md file is one document; each line of a jsonl file, row of a table and item of a json list (wiki40b's
    format among them) is one. Files named train, valid and test keep their split; else texts are split by their hash,
    and fewer than twenty single texts are each divided 90 : 5 : 5 by length, after a word. Bytes that are not UTF-8
    are replaced by U+FFFD and counted.

    Not covered: compressed files, and separators inside a text file (a txt file is one document, however long).

    Attributes:
        path: the file or folder, or `hub:OWNER/NAME` for a data set of the Hugging Face hub. It does not enter the
            fingerprint: the content does.
        text_field: the key (jsonl, json) or column (csv, parquet) that holds the text. For csv without a header line,
            the column's number, from 1.
    """

    path: str = cosmetic("")
    text_field: str = "text"

    def documents(self, split: str) -> Iterator[Document]:
        check_split(split)
        self.check_identity()
        yield from at_least_one(
            documents(self._sources(), split, lambda path: rows(path, self.text_field)),
            f"the {split} split of {self.path!r} is empty: give more text, or a folder with files named train, valid"
            " and test",
        )

    def whole(self) -> Iterator[Document]:
        """Yield every document of every split, none of them divided, for who asks something of all the text.

        Raises:
            UsageError: the source cannot be read, or holds no text.
            DamagedError: the content has not the identity in `sha256`.
        """
        self.check_identity()
        yield from at_least_one(
            undivided(self._sources(), lambda path: rows(path, self.text_field)),
            f"{self.path!r} holds no text: give files that do",
        )

    def identity(self) -> str:
        return identity("files 1", self._sources())

    def about(self) -> dict[str, Any]:
        sources, origin = self._sources(), self._folder().origin
        return {
            "licence": origin.get("repository_licence", "unknown: the files are yours"),
            "files": len(sources),
            "bytes": sum(source.path.stat().st_size for source in sources),
            "replaced": sum(source.invalid for source in sources),
            **origin,
        }

    def size(self, split: str) -> int:
        return size(self._sources(), split)

    def _folder(self) -> Place:
        return Place(self.name, self.path, f"files that end in one of {', '.join(KINDS)}")

    def _sources(self) -> tuple[Source, ...]:
        return layout(self._folder())
