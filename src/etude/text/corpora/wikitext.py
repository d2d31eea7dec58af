"""WikiText: good and featured articles of the English Wikipedia (Merity et al. 2016)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from etude.core.errors import UsageError
from etude.core.spec import cosmetic
from etude.text.corpora.base import Corpus, Document
from etude.text.places import Place, content_hash, split_named
from etude.text.reading import columns, lines, text_of
from etude.text.splits import SPLITS, check_split

_LAYOUT = (
    "train, valid and test as .txt, wiki.train.tokens (the variant unk), wiki.train.raw (the variant raw) and so on, or"
    " Parquet"
)
_FILE = r"(wiki\.)?(train|valid|validation|test)([-_. ].*)?\.(txt|tokens|raw|parquet)"
_TITLE = re.compile(r" ?= (?!= ).+(?<! =) = ?")


@dataclass(frozen=True)
class Wikitext(Corpus):
    """WikiText-2 or WikiText-103, whichever is in the folder.

    A document is an article: from a line ` = Title = `, empty lines around it, to the next. Lines of a table or of a
    formula that begin and end the same way have text beside them and are none; so found, WikiText-2 has its published
    600, 60 and 60 articles. Nothing is changed: the documents of a split, joined, are its file.

    An article is held whole while it is read, and so is a line of any length.

    Attributes:
        path: the folder with the three files, or `hub` to fetch WikiText-2, `hub:Salesforce/wikitext/wikitext-103-v1`
            another.
        variant: `unk` is cut into words, and words seen less than three times in training are `<unk>`; `raw` has every
            word. Files of the other variant are refused.
        articles: False keeps each split as one document, as it is published.
    """

    path: str = cosmetic("")
    variant: Literal["unk", "raw"] = "unk"
    articles: bool = True

    def documents(self, split: str) -> Iterator[Document]:
        check_split(split)
        self.check_identity()
        files = self._files()
        self._check_variant(files["valid"])
        if not self.articles:
            yield Document(f"wikitext {split}", _lines(files[split]))
            return
        for number, article in enumerate(divided(_lines(files[split])), 1):
            yield Document(f"{split} article {number}", article)

    def identity(self) -> str:
        return content_hash("wikitext 1", ((split, path) for split, paths in self._files().items() for path in paths))

    def about(self) -> dict[str, Any]:
        files = self._files()
        return {
            "licence": "CC BY-SA 3.0",
            "source": "WikiText (Merity, Xiong, Bradbury and Socher 2016), from the English Wikipedia",
            "variant": self.variant,
            "articles": {split: sum(1 for _ in divided(_lines(files[split]))) for split in SPLITS},
            **self._folder().origin,
        }

    def size(self, split: str) -> int:
        files = self._files()[check_split(split)]
        return 0 if files[0].suffix.lower() == ".parquet" else sum(path.stat().st_size for path in files)

    def _folder(self) -> Place:
        return Place(self.name, self.path, _LAYOUT)

    def _files(self) -> dict[str, list[Path]]:
        """Return the files of each split in their order: one, or Parquet's parts."""
        place = self._folder()
        other = ".raw" if self.variant == "unk" else ".tokens"
        found: dict[str, list[Path]] = {split: [] for split in SPLITS}
        for path in place.matching(_FILE).values():
            if path.suffix.lower() != other:
                found[split_named(path.name.lower().removeprefix("wiki."))].append(path)
        for split, paths in found.items():
            if not paths:
                raise place.missing(f"{split} file of the variant {self.variant}")
            if len({path.parent for path in paths}) > 1 or (len(paths) > 1 and paths[0].suffix.lower() != ".parquet"):
                names = ", ".join(path.relative_to(place.root).as_posix() for path in paths)
                raise UsageError(f"{self.path!r} has several {split} files ({names}): give the folder of one")
        return found

    def _check_variant(self, valid: list[Path]) -> None:
        """Refuse files of the other variant: every split of the one has `<unk>`, no split of the other."""
        is_unk = any("<unk>" in line for line in _lines(valid))
        if is_unk != (self.variant == "unk"):
            found = "unk" if is_unk else "raw"
            raise UsageError(
                f"the files in {self.path!r} are WikiText's variant {found}, and {self.variant} was asked for: set its"
                f" field variant to {found}, or give the other files"
            )


def _lines(paths: list[Path]) -> Iterator[str]:
    """Yield the lines of a split, each with its line feed."""
    for path in paths:
        if path.suffix.lower() == ".parquet":
            for number, (line,) in enumerate(columns(path, ["text"]), 1):
                yield text_of(path, number, line).removesuffix("\n") + "\n"
        else:
            yield from lines(path)


def divided(text: Iterable[str]) -> Iterator[list[str]]:
    """Yield the lines of each article. What stands before the first title belongs to the first article."""
    article: list[str] = []
    before, title = "", ""  # `title` is a line that is one, if the next is empty
    for line in chain(text, [""]):  # after the last line, nothing
        empty = not line.strip()
        if title:
            if empty and any(held.strip() for held in article):
                yield article
                article = []
            article.append(title)
            title = ""
        if not empty and not before.strip() and _TITLE.fullmatch(line.rstrip("\n")):
            title = line
        else:
            article.append(line)
        before = line
    if any(article):
        yield article[:-1]
