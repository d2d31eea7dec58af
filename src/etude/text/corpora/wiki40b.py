"""Wiki-40B: cleaned articles of Wikipedia in 41 languages (Guo et al. 2020)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from etude.core.errors import UsageError
from etude.core.spec import cosmetic
from etude.text.corpora._files_layout import Source, documents, identity, layout, size
from etude.text.corpora.base import Corpus, Document, at_least_one
from etude.text.places import Place
from etude.text.reading import rows
from etude.text.splits import check_split

_KINDS = (".json", ".jsonl", ".parquet")
_LAYOUT = "json, jsonl or Parquet files with a text an article, marked as in _START_ARTICLE_"
_ARTICLE = "_START_ARTICLE_"
_MARK = re.compile(r"\n?_START_(ARTICLE|SECTION|PARAGRAPH)_\n")
_PLAIN = {"ARTICLE": "", "SECTION": "\n\n", "PARAGRAPH": "\n\n"}


@dataclass(frozen=True)
class Wiki40b(Corpus):
    """Wiki-40B: each article one document, with the marks `_START_ARTICLE_`, `_START_SECTION_` and `_START_PARAGRAPH_`
    before its title, the names of sections and the text, and `_NEWLINE_` between paragraphs.

    The sample of the first 20 tokens of the first paragraph is `Tokens(Wiki40b(...), openings=20)`; it needs the marks.
    Files named train, validation and test keep their split; else articles are split by their hash.

    Not covered: the TFRecord files of TensorFlow Datasets; its text in JSON, JSONL or Parquet is read.

    Attributes:
        path: the file or folder of one language, or `hub` to fetch English, `hub:google/wiki40b/de` another.
        marks: `kept` leaves the text as it is; `plain` puts empty lines in the marks' place, and a line end for
            `_NEWLINE_`.
    """

    path: str = cosmetic("")
    marks: Literal["kept", "plain"] = "kept"

    def documents(self, split: str) -> Iterator[Document]:
        check_split(split)
        self.check_identity()
        articles = documents(self._sources(), split, lambda path: rows(path, "text"))
        yield from at_least_one(
            map(self._made, articles), f"the {split} split of {self.path!r} is empty: give more articles"
        )

    def identity(self) -> str:
        return identity("wiki40b 1", self._sources())

    def about(self) -> dict[str, Any]:
        return {
            "licence": "CC BY-SA 3.0 (the text of Wikipedia)",
            "source": "Wiki-40B (Guo, Dai, Vrandečić and Al-Rfou 2020), from Wikipedia",
            "files": len(self._sources()),
            "marks": self.marks,
            **self._folder().origin,
        }

    def size(self, split: str) -> int:
        return size(self._sources(), split)

    def _folder(self) -> Place:
        return Place(self.name, self.path, _LAYOUT)

    def _sources(self) -> tuple[Source, ...]:
        return layout(self._folder(), _KINDS)

    def _made(self, document: Document) -> Document:
        text = "".join(document.stretches)
        if _ARTICLE not in text:
            raise UsageError(
                f"{document.name} has no {_ARTICLE}: it is not in Wiki-40B's format; read it with the corpus files"
            )
        return Document(document.name, [text if self.marks == "kept" else plain(text)])


def plain(text: str) -> str:
    """Return an article as a person would write it: its title, then sections' names and texts between empty lines."""
    unmarked = _MARK.sub(lambda mark: _PLAIN[mark[1]], text)
    return unmarked.replace("_NEWLINE_", "\n").strip()
