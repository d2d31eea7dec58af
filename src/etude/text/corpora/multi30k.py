"""Multi30k: what is to be seen in a picture, in English and in German (Elliott et al. 2016)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from etude.core.errors import UsageError
from etude.core.spec import cosmetic
from etude.text.corpora.base import Corpus, Document
from etude.text.places import Place, content_hash
from etude.text.reading import lines, objects, once_a_file
from etude.text.splits import SPLITS, check_split

_LAYOUT = (
    "train.en, train.de, val.en, val.de, test_2016_flickr.en and test_2016_flickr.de, each also as .gz; or train.jsonl,"
    " val.jsonl and test.jsonl"
)
_NAMES = {"train": "train", "valid": "val", "test": "test_2016_flickr"}
_LANGUAGES = ("en", "de")
_PAIR = '{"en": "A dog.", "de": "Ein Hund."}'


@dataclass(frozen=True)
class Multi30k(Corpus):
    """Multi30k, task 1: 29,000 pairs to train on, 1,014 to validate (`val`), 1,000 to test (`test_2016_flickr`), each
    an English caption and its German translation.

    Documents come in pairs, the source before the target (`sides`). Line n of one file belongs to line n of the other;
    spaces around a line are left out.

    Not covered: the French and Czech sides, and the later test sets.

    Attributes:
        path: the folder with the six files, or `hub` to fetch them.
        source: the language that is translated from.
    """

    path: str = cosmetic("")
    source: Literal["en", "de"] = "en"

    @property
    def sides(self) -> tuple[str, ...]:
        """The languages, the source first."""
        return (self.source, *(language for language in _LANGUAGES if language != self.source))

    def documents(self, split: str) -> Iterator[Document]:
        check_split(split)
        self.check_identity()
        self._check_balance(split)
        files = self._files(split)
        sides = [_texts(files[side], side) for side in self.sides]
        for number, group in enumerate(zip(*sides, strict=True), 1):
            for side, text in zip(self.sides, group, strict=True):
                yield Document(f"{split} pair {number} ({side})", [text.strip()])

    def identity(self) -> str:
        found = {split: self._files(split) for split in SPLITS}
        parts = [(f"{split} {side}", files[side]) for split, files in found.items() for side in _LANGUAGES]
        return content_hash("multi30k 1", parts)

    def about(self) -> dict[str, Any]:
        return {
            "licence": "CC BY-NC-SA 4.0; the captions are Flickr30K's",
            "source": "Multi30k, task 1 (Elliott, Frank, Sima'an and Specia 2016)",
            "pairs": {split: count(self._files(split)[self.source]) for split in SPLITS},
            **self._folder().origin,
        }

    def _folder(self) -> Place:
        return Place(self.name, self.path, _LAYOUT)

    def _files(self, split: str) -> dict[str, Path]:
        """Return the file of each language, which are one where both are in it."""
        place, name = self._folder(), _NAMES[split]
        if both := place.matching(rf"{split if split != 'valid' else 'val(id|idation)?'}\.jsonl"):
            return dict.fromkeys(_LANGUAGES, next(iter(both.values())))
        return {side: place.one(rf"{name}\.{side}(\.gz)?", f"{name}.{side}") for side in _LANGUAGES}

    def _check_balance(self, split: str) -> None:
        files = self._files(split)
        first, second = (files[side] for side in self.sides)
        if count(first) != count(second) or not count(first):
            raise UsageError(
                f"{first.name} has {count(first)} lines and {second.name} has {count(second)}: line n of one must be"
                " the translation of line n of the other; fetch both again"
            )


def _texts(path: Path, side: str) -> Iterator[str]:
    """Yield the texts of one language."""
    if path.suffix.lower() != ".jsonl":
        yield from lines(path)
        return
    for number, row in objects(path):
        if not isinstance(row, dict) or not isinstance(row.get(side), str):
            raise UsageError(f"{str(path)!r} line {number} has no text {side!r}: each line is a pair, as in {_PAIR}")
        yield row[side]


@once_a_file
def count(path: Path) -> int:
    """Return how many texts a file has. Kept while its size and time of change stay."""
    return sum(1 for _ in (objects if path.suffix.lower() == ".jsonl" else lines)(path))
