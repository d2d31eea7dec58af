"""Tasks by category: lists of files, as the command line names them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar

from etude.core.errors import UsageError
from etude.core.spec import Spec
from etude.evals.recognised import recognised
from etude.evals.tasks._rows import SUFFIXES
from etude.evals.tasks.base import Task


@dataclass(frozen=True)
class Listed(Spec):
    """A task of a category.

    Attributes:
        category: what it is counted under, or nothing.
        name: what tables call it.
        task: the file and what is measured by it.
    """

    category: str
    name: str
    task: Task

    @classmethod
    def from_words(cls, words: Sequence[str]) -> tuple[Self, ...]:
        """Return the tasks that words of the command line stand for, with commas between them: a file of items, a
        folder of such files, `CATEGORY:FILE`, or a JSON file of an object with the files of each category, relative to
        itself.

        Raises:
            UsageError: there is no such file, or no task reads it.
        """
        given = [word.strip() for part in words for word in part.split(",") if word.strip()]
        return _told_apart([listed for word in given for listed in cls._of_word(word)])

    @classmethod
    def as_words(cls, listed: Sequence[Listed]) -> str:
        """Return tasks as `from_words` reads them."""
        return ",".join((f"{one.category}:" if one.category else "") + str(one.task.path) for one in listed)

    @classmethod
    def _of_word(cls, word: str) -> Iterator[Self]:
        path, category = Path(word).expanduser(), ""
        if not path.exists() and ":" in word:
            category, _, rest = word.partition(":")
            path = Path(rest).expanduser()
        if not path.exists():
            raise UsageError(
                f"no file or folder {str(path)!r}: give files of items, a folder of them, CATEGORY:FILE, or a JSON file"
                " with the files of each category"
            )
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and not _about(file))
            yield from (cls(category, file.stem, recognised(file)) for file in files)
        elif (grouped := _categories(path)) is not None:
            for name, files in grouped.items():
                yield from (cls(name, Path(file).stem, recognised(_inside(path, file))) for file in files)
        else:
            yield cls(category, path.stem, recognised(path))


L = TypeVar("L", bound=Listed)


def _categories(path: Path) -> Mapping[str, Sequence[str]] | None:
    """Return the files of each category, or None where a file is no such list."""
    if path.suffix.lower() != ".json":
        return None
    try:
        held: Any = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError:  # lines of JSON, perhaps: the task that reads it says
        return None
    lists = isinstance(held, dict) and all(isinstance(files, list) for files in held.values())
    if not lists or any(not isinstance(file, str) for files in held.values() for file in files):
        return None
    return held


def _about(file: Path) -> bool:
    """Return whether a file says something of the others."""
    return file.stem.lower().split(".")[0] in ("readme", "license", "licence")


def _told_apart(listed: list[L]) -> tuple[L, ...]:
    """Name tasks of one category that would have the same name by their folders too."""
    keys = [(one.category, one.name) for one in listed]
    return tuple(
        replace(one, name=f"{Path(one.task.path).parent.name}/{one.name}") if keys.count(key) > 1 else one
        for one, key in zip(listed, keys, strict=True)
    )


def _inside(path: Path, file: str) -> Path:
    found = path.parent / file
    if not found.is_file():
        raise UsageError(f"{path.name!r} lists {file!r}, which is not there: put it beside, or take it out of the list")
    return found
