"""Which part of which file goes to which split."""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from etude.core.errors import UsageError
from etude.text.reading import ROWS, TEXTS, invalid_bytes, opened
from etude.text.splits import SPLITS, TRAIN_SHARE, VALID_SHARE

_NAMES = {"train": "train", "training": "train", "valid": "valid", "validation": "valid", "val": "valid",
          "dev": "valid", "test": "test"}  # fmt: skip
_NAMED = re.compile(rf"({'|'.join(_NAMES)})(?:[-_. ].*)?", re.IGNORECASE)

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
        """The hash of the file's bytes. Kept while its size and time of change stay, so that it is read for it once."""
        stat = self.path.stat()
        return _sha256(self.path, stat.st_size, stat.st_mtime_ns)

    @property
    def invalid(self) -> int:
        """How many of its bytes are not UTF-8 (0 for Parquet, which is not text)."""
        stat = self.path.stat()
        binary = self.path.suffix.lower() == ".parquet"
        return 0 if binary else _invalid(self.path, stat.st_size, stat.st_mtime_ns)


def layout(path: str) -> tuple[Source, ...]:
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
    root = Path(path).expanduser()
    files = _files(path, root)
    named = {name: split for name in files if (split := _split_named(name))}
    if root.is_dir() and "train" in named.values():
        shares = _shares_by_name(set(named.values()))
        return tuple(Source(files[name], name, shares[split]) for name, split in named.items())
    sources = tuple(Source(files[name], name, _DIVIDED) for name in files)
    texts = [source for source in sources if source.is_text]
    if len({source.sha256 for source in texts}) < _WHOLE_FILES:
        return sources
    return tuple(_whole(texts).get(source.name, source) for source in sources)


def _files(path: str, root: Path) -> dict[str, Path]:
    """Return the files that can be read by their names within the corpus, sorted by name."""
    kinds = sorted((*TEXTS, *ROWS))
    if not path:
        raise UsageError("corpus files needs a file or folder: set its field path (--data.corpus.path PATH)")
    if not root.exists():
        raise UsageError(f"no file or folder {path!r}: check the field path (--data.corpus.path)")
    if root.is_file():
        if root.suffix.lower() not in kinds:
            raise UsageError(f"cannot read {path!r}: the ending must be one of {', '.join(kinds)}")
        return {root.name: root}
    inside = {file.relative_to(root).as_posix(): file for file in root.rglob("*") if file.suffix.lower() in kinds}
    found = {name: file for name, file in sorted(inside.items()) if file.is_file() and not _hidden(name)}
    if not found:
        raise UsageError(f"no text in the folder {path!r}: it needs files that end in one of {', '.join(kinds)}")
    return found


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _split_named(name: str) -> str:
    """Return the split that a file's name, or the name of a folder around it, says; the innermost wins."""
    for part in reversed(name.split("/")):
        if match := _NAMED.fullmatch(part):
            return _NAMES[match[1].lower()]
    return ""


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


@functools.lru_cache(maxsize=1 << 16)
def _sha256(path: Path, size: int, changed: int) -> str:
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.lru_cache(maxsize=1 << 16)
def _invalid(path: Path, size: int, changed: int) -> int:
    return invalid_bytes(path)
