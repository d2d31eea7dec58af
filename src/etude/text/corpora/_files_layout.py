"""Which part of which file goes to which split, and the documents that come of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from etude.core.errors import UsageError
from etude.text.corpora.base import Document
from etude.text.places import Place, sha256_of, split_named
from etude.text.reading import ROWS, TEXTS, invalid_bytes, stretches
from etude.text.splits import SPLITS, TRAIN_SHARE, VALID_SHARE, fraction

KINDS = tuple(sorted((*TEXTS, *ROWS)))
"""Endings of the files that are read."""

_WHOLE_FILES = 20
"""From this many texts on, whole files go to the splits (5% of 20 is one); of fewer, each is divided."""

Shares = tuple[tuple[str, float, float], ...]

_DIVIDED: Shares = (
    ("train", 0.0, TRAIN_SHARE),
    ("valid", TRAIN_SHARE, TRAIN_SHARE + VALID_SHARE),
    ("test", TRAIN_SHARE + VALID_SHARE, 1.0),
)


@dataclass(frozen=True)
class Source:
    """One file and what of it each split has.

    Attributes:
        path: where it is.
        name: its path within the corpus, with `/`.
        shares: for each split in it, from where to where, in [0, 1]: of the length for one text, of the hashes of the
            single texts for a file of many.
    """

    path: Path
    name: str
    shares: Shares

    @property
    def is_text(self) -> bool:
        return self.path.suffix.lower() in TEXTS

    @property
    def sha256(self) -> str:
        """The hash of the file's bytes."""
        return sha256_of(self.path)

    @property
    def invalid(self) -> int:
        """How many of its bytes are not UTF-8 (0 for what is compressed)."""
        binary = self.path.suffix.lower() not in KINDS or self.path.suffix.lower() == ".parquet"
        return 0 if binary else invalid_bytes(self.path)


def layout(place: Place, kinds: tuple[str, ...] = KINDS) -> tuple[Source, ...]:
    """Return the files of a corpus in the order of their names.

    - Where a file or folder is named `train`, `valid` (`validation`, `val`, `dev`) or `test`, alone or before one of
      `-_. `, and a train one is among them, files go where their names say and others are left out. A split that none
      is named for gets 5% of train.
    - Else files of many texts give each text to the split that its own hash says, so that equal texts stay together.
    - Else, of twenty single texts or more, whole files go to splits in the order of their hashes, and of fewer, each is
      divided 90 : 5 : 5 by length.

    Raises:
        UsageError: there is nothing to read at the path.
    """
    files = _files(place, kinds)
    named = {name: split for name in files if (split := split_named(name))}
    if place.root.is_dir() and "train" in named.values():
        shares = _shares_by_name(set(named.values()))
        return tuple(Source(files[name], name, shares[split]) for name, split in named.items())
    sources = tuple(Source(files[name], name, _DIVIDED) for name in files)
    texts = [source for source in sources if source.is_text]
    if len({source.sha256 for source in texts}) < _WHOLE_FILES:
        return sources
    return tuple(_whole(texts).get(source.name, source) for source in sources)


def documents(sources: tuple[Source, ...], split: str, texts: Callable[[Path], Iterator[str]]) -> Iterator[Document]:
    """Yield the documents of a split.

    Args:
        sources: what `layout` returned.
        split: whose.
        texts: reads a file of many texts.
    """
    for source in sources:
        for name, start, stop in source.shares:
            if name == split:
                yield from _documents(source, start, stop, texts)


def undivided(sources: tuple[Source, ...], texts: Callable[[Path], Iterator[str]]) -> Iterator[Document]:
    """Yield the documents of every split, a text that is divided between several as one.

    Args:
        sources: what `layout` returned.
        texts: reads a file of many texts.
    """
    for source in sources:
        yield from _documents(source, 0.0, 1.0, texts)


def identity(extractor: str, sources: tuple[Source, ...]) -> str:
    """Return the hash of what the files hold and how it is divided."""
    parts = (f"{s.sha256} {s.path.suffix.lower()} {s.shares!r}" for s in sources)
    return hashlib.sha256("\n".join((extractor, *parts)).encode()).hexdigest()


def size(sources: tuple[Source, ...], split: str) -> int:
    """Return about how many bytes of text a split has, or 0 where something is compressed, by a factor that only
    reading tells."""
    shares = [(s, stop - start) for s in sources for name, start, stop in s.shares if name == split]
    if any(s.path.suffix.lower() == ".parquet" or s.path.suffix.lower() not in KINDS for s, _ in shares):
        return 0
    return round(sum(s.path.stat().st_size * share for s, share in shares))


def _documents(source: Source, start: float, stop: float, texts: Callable[[Path], Iterator[str]]) -> Iterator[Document]:
    if source.is_text:
        if any(text.strip() for text in stretches(source.path, start, stop)):
            yield Document(source.name, stretches(source.path, start, stop))
        return
    for number, text in enumerate(texts(source.path), 1):
        if text and start <= fraction(text) < stop:
            yield Document(f"{source.name}:{number}", [text])


def _files(place: Place, kinds: tuple[str, ...]) -> dict[str, Path]:
    """Return the files that can be read by their names within the corpus, sorted by name."""
    found = {name: file for name, file in place.files().items() if file.suffix.lower() in kinds}
    if not found and place.root.is_file():
        raise UsageError(f"cannot read {place.path!r}: the ending must be one of {', '.join(kinds)}")
    if not found:
        raise place.missing("text")
    return found


def _shares_by_name(named: set[str]) -> dict[str, Shares]:
    shares: dict[str, Shares] = {split: ((split, 0.0, 1.0),) for split in named}
    end, lent = 1.0, []
    for split in (s for s in SPLITS if s not in named):
        lent.append((split, end - VALID_SHARE, end))
        end -= VALID_SHARE
    return {**shares, "train": (("train", 0.0, end), *lent)}


def _whole(texts: list[Source]) -> dict[str, Source]:
    """Give whole files to splits, in the order of their hashes; files of equal bytes go together."""
    hashes = sorted({source.sha256 for source in texts})
    each = round(len(hashes) * VALID_SHARE)
    split = dict.fromkeys(hashes, "train")
    split.update(dict.fromkeys(hashes[-2 * each : -each], "valid"))
    split.update(dict.fromkeys(hashes[-each:], "test"))
    return {s.name: Source(s.path, s.name, ((split[s.sha256], 0.0, 1.0),)) for s in texts}
