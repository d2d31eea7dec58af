"""OpenWebText: web pages that Reddit's readers liked (Gokaslan and Cohen 2019)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etude.core.spec import cosmetic
from etude.text.corpora._archives import ARCHIVES, archived
from etude.text.corpora._files_layout import Source, documents, identity, layout, size
from etude.text.corpora.base import Corpus, Document, at_least_one
from etude.text.places import Place
from etude.text.reading import rows
from etude.text.splits import check_split

_KINDS = (".txt", ".jsonl", ".parquet", *ARCHIVES)
_LAYOUT = "txt, jsonl or Parquet files, or the archives openwebtext.tar.xz, urlsf_subset*.tar or *_data.xz"


@dataclass(frozen=True)
class Openwebtext(Corpus):
    """OpenWebText: each page one document, from a folder of txt, jsonl or Parquet files, or from its archives as
    published, read as a stream, without unpacking, archives within archives too.

    Files named train, valid and test keep their split; pages in tables and archives go to splits by their hash, and
    twenty txt files or more by the hashes of the files. To be split, an archive is read through once a split.

    Attributes:
        path: the file or folder, or `hub` to fetch it.
    """

    path: str = cosmetic("")

    def documents(self, split: str) -> Iterator[Document]:
        check_split(split)
        self.check_identity()
        pages = documents(self._sources(), split, _texts)
        yield from at_least_one(pages, f"the {split} split of {self.path!r} is empty: give more pages")

    def identity(self) -> str:
        return identity("openwebtext 1", self._sources())

    def about(self) -> dict[str, Any]:
        return {
            "licence": "CC0 for the collection; the pages are their authors'",
            "source": "OpenWebText (Gokaslan and Cohen 2019)",
            "files": len(self._sources()),
            **self._folder().origin,
        }

    def size(self, split: str) -> int:
        return size(self._sources(), split)

    def _folder(self) -> Place:
        return Place(self.name, self.path, _LAYOUT)

    def _sources(self) -> tuple[Source, ...]:
        return layout(self._folder(), _KINDS)


def _texts(path: Path) -> Iterator[str]:
    if path.suffix.lower() not in ARCHIVES:
        return rows(path, "text")
    return (text for text in archived(path) if text.strip())
