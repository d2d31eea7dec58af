"""Your own labelled texts: a table with a text and a label in each row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etude.core.errors import UsageError, unknown
from etude.core.spec import cosmetic
from etude.text.corpora._labelled import label_of, sameness
from etude.text.corpora._labelled_words import from_words, to_words
from etude.text.corpora.base import Corpus, Document, at_least_one
from etude.text.places import Place, content_hash
from etude.text.reading import cells, columns, objects
from etude.text.splits import check_split, fraction

_SUFFIXES = (".csv", ".jsonl", ".parquet")
_LAYOUT = "one table of texts with labels: .csv with a header, .jsonl or .parquet"


@dataclass(frozen=True)
class Labelled(Corpus):
    """Texts with labels from one table: CSV with a header, JSONL or Parquet. A hash of a text's words says which split
    it is in, so texts of the same words stay together, and a longer file moves none. Davidson et al. 2017:
    `--data.corpus.text-field tweet --data.corpus.label-field class --data.corpus.classes hate,offensive,neither`.

    Attributes:
        path: the file, or a folder that holds one.
        text_field: key or column of the text.
        label_field: key or column of the label, which is the name of a class or its number.
        classes: the names of the labels, in the order of their numbers.
        first: the number of the first class.
        held_out: share of the texts in `valid`, and in `test`.
    """

    path: str = cosmetic("")
    text_field: str = "text"
    label_field: str = "label"
    classes: tuple[str, ...] = ("0", "1")  # pyright: ignore[reportIncompatibleMethodOverride]
    first: int = 0
    held_out: float = 0.1

    def check(self) -> None:
        if not 0 < self.held_out < 0.5:
            raise UsageError(f"labelled.held_out = {self.held_out}: give a share above 0 and below 0.5")
        if not 1 < len(self.classes) == len(set(self.classes)) or not all(self.classes):
            named = ", ".join(self.classes) or "(none)"
            raise UsageError(f"labelled.classes = {named}: name two or more, each once, as in hate,offensive,neither")

    @classmethod
    def from_words(cls, words: Sequence[str]) -> tuple[Labelled, ...]:
        """Return the sets that words of the command line stand for: files with `text` and `label`, or JSON with fields.

        Raises:
            UsageError: the JSON is none, or names a field that there is not.
        """
        return from_words(cls, words)

    @classmethod
    def as_words(cls, sets: Sequence[Labelled]) -> str:
        """Return sets as `from_words` reads them."""
        return to_words(sets)

    def documents(self, split: str) -> Iterator[Document]:
        check_split(split)
        self.check_identity()
        rows = (document for document, text in self._documents() if self._split(text) == split)
        yield from at_least_one(rows, f"the {split} split of {self.path!r} is empty: give a file with more rows")

    def identity(self) -> str:
        return content_hash("labelled 1", [("table", self._table())])

    def about(self) -> dict[str, Any]:
        labels = Counter(document.label for document, _ in self._documents())
        return {
            "licence": "that of its source, which you chose",
            "rows": {name: labels[label] for label, name in enumerate(self.classes)},
            **self._folder().origin,
        }

    def size(self, split: str) -> int:
        table = self._table()
        share = {"train": 1 - 2 * self.held_out}.get(check_split(split), self.held_out)
        return 0 if table.suffix.lower() == ".parquet" else round(share * table.stat().st_size)

    def _folder(self) -> Place:
        return Place(self.name, self.path, _LAYOUT)

    def _table(self) -> Path:
        place = self._folder()
        found = {name: file for name, file in place.files().items() if file.suffix.lower() in _SUFFIXES}
        if not found:
            raise place.missing("table")
        if len(found) > 1:
            raise UsageError(f"{self.path!r} holds {len(found)} tables ({', '.join([*found][:3])}): give one of them")
        return next(iter(found.values()))

    def _documents(self) -> Iterator[tuple[Document, str]]:
        """Yield every text that is not blank, as a document and as it is."""
        for where, text, label in self._rows():
            if not isinstance(text, str):
                raise UsageError(f"{where}: {self.text_field} is {str(text)[:40]!r}, a {type(text).__name__}, no text")
            if text := text.strip():
                yield Document(where, [text], self._label(label, where)), text

    def _label(self, value: Any, where: str) -> int:
        if isinstance(value, str) and value.strip() in self.classes:
            return self.classes.index(value.strip())
        return label_of(value, self.first, self.classes, where)

    def _rows(self) -> Iterator[tuple[str, Any, Any]]:
        """Yield where each row stands, its text and its label."""
        path, wanted = self._table(), (self.text_field, self.label_field)
        if path.suffix.lower() == ".parquet":
            flags = "--corpus.text-field and --corpus.label-field"
            for number, (text, label) in enumerate(columns(path, wanted, flags), 1):
                yield f"{path.name} row {number}", text or "", label
        elif path.suffix.lower() == ".jsonl":
            for number, row in objects(path):
                where = f"{path.name} line {number}"
                if not isinstance(row, dict):
                    raise UsageError(f"{where} is {str(row)[:40]!r} and no object with fields")
                text, label = (row[_known(path, name, row)] for name in wanted)
                yield where, text or "", label
        else:
            yield from _of_csv(path, wanted)

    def _split(self, text: str) -> str:
        at = fraction(sameness(text))
        if at < self.held_out:
            return "test"
        return "valid" if at < 2 * self.held_out else "train"


def _of_csv(path: Path, wanted: tuple[str, str]) -> Iterator[tuple[str, Any, Any]]:
    table = cells(path)
    names = next(table, (0, []))[1]
    at = [names.index(_known(path, name, names)) for name in wanted]
    for number, row in table:
        if len(row) <= max(at):
            raise UsageError(f"{path.name} line {number} has {len(row)} columns, and the header {len(names)}")
        yield f"{path.name} line {number}", row[at[0]], row[at[1]]


def _known(path: Path, name: str, names: Any) -> str:
    if name not in names:
        see = "--corpus.text-field and --corpus.label-field"
        raise unknown(f"column of {path.name}", name, names, see=see)
    return name
