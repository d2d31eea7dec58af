"""Where a member's files lie: found under a local path, hashed, and asked for in one line where they are not there."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from etude.core.errors import UsageError
from etude.text.homes import HOMES, files_of, is_on_hub, snapshot
from etude.text.reading import once_a_file, opened

_SHOWN = 5
"""How many of a folder's files a message names."""

_FLAG = "--corpus.path FOLDER (--data.corpus.path for a training)"

SPLIT_NAMES = {"train": "train", "training": "train", "valid": "valid", "validation": "valid", "val": "valid",
               "dev": "valid", "test": "test"}  # fmt: skip
_NAMED = re.compile(rf"({'|'.join(SPLIT_NAMES)})(?:[-_. ].*)?", re.IGNORECASE)


@dataclass(frozen=True)
class Place:
    """The file or folder that a member's `path` names.

    Attributes:
        corpus: the member's name, for messages.
        path: what the person gave; nothing is an error that says what to give.
        layout: what has to be there, as the end of "it needs ...".
        noun: what the member is.
        flag: how its path is given.
    """

    corpus: str
    path: str
    layout: str
    noun: str = "corpus"
    flag: str = _FLAG

    @property
    def root(self) -> Path:
        """The file or folder. Where `path` means the hub (see `etude.text.homes`), the files are fetched first.

        Raises:
            UsageError: no path was given, or nothing is there.
        """
        if not self.path:
            on_hub = f", or hub to fetch {HOMES[self.corpus]}" if self.corpus in HOMES else ""
            raise UsageError(f"{self._whose} needs a file or folder ({self.layout}): give {self.flag}{on_hub}")
        if is_on_hub(self.path):
            return snapshot(self.corpus, self.path)[1]
        root = Path(self.path).expanduser()
        if not root.exists():
            raise UsageError(
                f"no file or folder {self.path!r}: {self._whose} needs {self.layout}; give it with {self.flag}"
            )
        return root

    @property
    def origin(self) -> dict[str, str]:
        """Where the files come from, for `about`: nothing for a local folder; the repository, commit and licence on
        its card for the hub."""
        if not is_on_hub(self.path):
            return {}
        some, _ = snapshot(self.corpus, self.path)
        return {"repository": some.repository, "revision": some.revision, "repository_licence": some.licence}

    def files(self) -> dict[str, Path]:
        """Return every file in the folder by its path within it, with `/`, sorted; a file alone by its name. What is
        hidden (begins with a full stop) is left out."""
        if is_on_hub(self.path):
            return files_of(self.corpus, self.path)
        root = self.root
        if root.is_file():
            return {root.name: root}
        inside = sorted((file.relative_to(root).as_posix(), file) for file in root.rglob("*"))
        hidden = re.compile(r"(^|/)\.")
        return {name: file for name, file in inside if file.is_file() and not hidden.search(name)}

    def matching(self, pattern: str) -> dict[str, Path]:
        """Return the files whose last name is as a regular expression says (case ignored), as `files` does."""
        wanted = re.compile(pattern, re.IGNORECASE)
        return {name: file for name, file in self.files().items() if wanted.fullmatch(file.name)}

    def one(self, pattern: str, what: str) -> Path:
        """Return the file whose last name is as a regular expression says; of several, the one nearest to the root.

        Raises:
            UsageError: there is none.
        """
        found = self.matching(pattern)
        if not found:
            raise self.missing(what)
        return found[min(found, key=lambda name: (name.count("/"), name))]

    @property
    def _whose(self) -> str:
        return f"{self.noun} {self.corpus}"

    def missing(self, what: str) -> UsageError:
        """Return the error for something that is not in the folder."""
        names = list(self.files())
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        held = ", ".join(names[:_SHOWN]) + more or "nothing"
        return UsageError(
            f"no {what} in the folder {self.path!r}, which holds {held}: {self._whose} needs {self.layout};"
            f" give the folder with {self.flag}"
        )


def split_named(name: str) -> str:
    """Return the split that a file's name, or the name of a folder around it, says, or nothing; the innermost wins."""
    for part in reversed(name.split("/")):
        if match := _NAMED.fullmatch(part):
            return SPLIT_NAMES[match[1].lower()]
    return ""


def content_hash(extractor: str, files: Iterable[tuple[str, Path]]) -> str:
    """Return the identity of a corpus: a hash of what extracts it and, in order, of each file's part and content.

    Args:
        extractor: the member's name and the version of its code, as in `wikitext 1`.
        files: what part each file plays (its split, its side), and where it is, which does not enter.
    """
    parts = (f"{sha256_of(path)} {part}" for part, path in files)
    return hashlib.sha256("\n".join((extractor, *parts)).encode()).hexdigest()


@once_a_file
def sha256_of(path: Path) -> str:
    """Return the hash of a file's bytes. Kept while its size and time of change stay: it is read for it once."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
