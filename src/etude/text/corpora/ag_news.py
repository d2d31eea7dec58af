"""AG News: short news in four topics (Zhang, Zhao and LeCun 2015)."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etude.core.errors import UsageError
from etude.core.spec import cosmetic
from etude.text.corpora._labelled import label_of, sameness
from etude.text.corpora.base import Corpus, Document, at_least_one
from etude.text.homes import is_on_hub
from etude.text.places import Place, content_hash
from etude.text.reading import cells, columns, lines, text_of
from etude.text.splits import VALID_SHARE, check_split, fraction

_LAYOUT = "test.csv and one or more train*.csv (class,title,description or text,label; or Parquet with text and label)"
_CLASSES = ("World", "Sports", "Business", "Sci/Tech")
_TABLE = r"[-_. ].*|)\.(csv|parquet)"


@dataclass(frozen=True)
class AgNews(Corpus):
    """AG News: title and description of a news item as one text, with its topic as the label.

    A row is `class,title,description` with classes from 1, as published, or `text,label` with labels from 0, as
    samples of it have; a line of column names is passed over. `test` is as published. The training rows are those of
    every file `train*`: rows with the same words as an earlier one, or as one in the test split, are taken out and
    counted, and 5% of the others, by a hash of their words, are `valid`. A backslash, which stands for a line end in
    the published files, becomes a space; other traces of HTML stay.

    Not covered: rows that share a long opening and then differ, as two reports of one agency do. A few such pairs cross
    the splits.

    Attributes:
        path: the folder with the files, or `hub` to fetch them; the topics' names are taken from `classes.txt`, where
            that is there too.
    """

    path: str = cosmetic("")

    def documents(self, split: str) -> Iterator[Document]:
        check_split(split)
        self.check_identity()
        rows = (document for part, document in self._rows(Counter(), split == "test") if part == split)
        yield from at_least_one(rows, f"the {split} split of {self.path!r} is empty: give files with more rows")

    def identity(self) -> str:
        place = self._folder()
        names = ((f"classes {name}", path) for name, path in place.matching(r"classes\.txt").items())
        train, test = self._tables("train"), self._tables("test")
        parts = (*names, *(("train", path) for path in train), *(("test", path) for path in test))
        return content_hash("ag-news 1", parts)

    def about(self) -> dict[str, Any]:
        counts: Counter[str] = Counter()
        for part, _ in self._rows(counts):
            counts[part] += 1
        return {
            "licence": "as its authors state: research and other non-commercial use",
            "source": "AG News, version 3 (Zhang, Zhao and LeCun 2015), from the AG corpus of news articles",
            "rows": {split: counts[split] for split in ("train", "valid", "test")},
            "duplicates_removed": counts["duplicate"],
            "duplicates_with_another_label": counts["another label"],
            "in_test_removed": counts["in test"],
            **self._folder().origin,
        }

    @property
    def classes(self) -> tuple[str, ...]:
        """The topics, from `classes.txt` where there is one."""
        # A recipe is also read where the text is not, and nothing is fetched to read one.
        there = self.path and not is_on_hub(self.path) and Path(self.path).expanduser().exists()
        found = self._folder().matching(r"classes\.txt") if there else {}
        if not found:
            return _CLASSES
        names = tuple(name for line in lines(next(iter(found.values()))) if (name := line.strip()))
        if not 1 < len(names) == len(set(names)):
            raise UsageError(
                f"classes.txt in {self.path!r} names the topics {', '.join(names) or '(none)'}: give two or more, each"
                " once, a line each, or take the file away"
            )
        return names

    def size(self, split: str) -> int:
        share = {"train": 1 - VALID_SHARE, "valid": VALID_SHARE, "test": 1.0}[check_split(split)]
        tables = self._tables("test" if split == "test" else "train")
        if any(path.suffix.lower() == ".parquet" for path in tables):
            return 0
        return round(share * sum(path.stat().st_size for path in tables))

    def _folder(self) -> Place:
        return Place(self.name, self.path, _LAYOUT)

    def _tables(self, what: str) -> list[Path]:
        """Return the tables of the test or training split, those nearest to the root."""
        found = self._folder().matching(f"{what}({_TABLE}")
        if not found:
            raise self._folder().missing(f"{what}*.csv")
        depth = min(name.count("/") for name in found)
        return [path for name, path in found.items() if name.count("/") == depth]

    def _rows(self, counts: Counter[str], test_alone: bool = False) -> Iterator[tuple[str, Document]]:
        """Yield every row that is kept, with its split: the test split first, which the others are held against.
        `counts` has in the end what was taken out. Of each row a hash of 16 bytes is kept in memory."""
        classes = self.classes
        in_test: set[bytes] = set()
        for path in self._tables("test"):
            for row in _read(path, classes):
                in_test.add(_digest(sameness(row.text)))
                yield "test", row.made()
        seen: dict[bytes, int] = {}
        for path in () if test_alone else self._tables("train"):
            for row in _read(path, classes):
                key = sameness(row.text)
                digest = _digest(key)
                if digest in in_test:
                    counts["in test"] += 1
                elif digest in seen:
                    counts["duplicate"] += 1
                    counts["another label"] += seen[digest] != row.label
                else:
                    seen[digest] = row.label
                    yield "valid" if fraction(key) < VALID_SHARE else "train", row.made()


@dataclass(frozen=True)
class _Row:
    name: str
    text: str
    label: int

    def made(self) -> Document:
        return Document(self.name, [self.text], self.label)


def _read(path: Path, classes: tuple[str, ...]) -> Iterator[_Row]:
    """Yield the rows of one table."""
    if path.suffix.lower() == ".parquet":
        for number, (text, label) in enumerate(columns(path, ("text", "label")), 1):
            where = f"{path.name} row {number}"
            yield _Row(where, _clean(text_of(path, number, text)), label_of(label, 0, classes, where))
        return
    for place, (number, row) in enumerate(cells(path)):
        where = f"{path.name} line {number}"
        if len(row) == 3:
            value, first, text = row[0], 1, f"{row[1]} {row[2]}"
        elif len(row) == 2:
            value, first, text = row[1], 0, row[0]
        else:
            raise UsageError(f"{where}: a row has class,title,description or text,label, and this one {len(row)} cells")
        if place == 0 and value.strip().lower() in ("class", "class index", "label"):
            continue
        yield _Row(where, _clean(text), label_of(value, first, classes, where))


def _clean(text: str) -> str:
    return " ".join(text.replace("\\", " ").split())


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
