"""Where the hub keeps the members' texts: one table, and the way from a member's `path` to a folder."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from etude.core.errors import UsageError
from etude.text.hub import Snapshot, fetched

HUB = "hub"
"""What a `path` begins with that means the hub: `hub`, or `hub:OWNER/NAME/FOLDER@REVISION`."""


@dataclass(frozen=True)
class Home:
    """Where a corpus lies on the hub.

    Attributes:
        repository: the data set's name.
        folder: the folder in it that holds the files, or nothing for all of it.
        files: patterns of the files in that folder.
        revision: the branch, tag or commit.
    """

    repository: str
    folder: str = ""
    files: Sequence[str] = ("*.parquet",)
    revision: str = "main"

    def __str__(self) -> str:
        folder = f"/{self.folder}" if self.folder else ""
        return f"{HUB}:{self.repository}{folder}" + (f"@{self.revision}" if self.revision != "main" else "")


HOMES = {
    "ag-news": Home("fancyzhx/ag_news", "data"),
    "multi30k": Home("bentrevett/multi30k", files=("train.jsonl", "val.jsonl", "test.jsonl")),
    "openwebtext": Home("Skylion007/openwebtext", "plain_text"),
    "rt-polarity": Home(
        "cornell-movie-review-data/rotten_tomatoes", files=("train.parquet", "validation.parquet", "test.parquet")
    ),
    "tinyshakespeare": Home("karpathy/tiny_shakespeare", "default", revision="refs/convert/parquet"),
    "wiki40b": Home("google/wiki40b", "en"),
    "wikitext": Home("Salesforce/wikitext", "wikitext-2-v1"),
}
"""The default of each member, named as on the command line."""

ANY_TEXT = ("*.csv", "*.jsonl", "*.parquet", "*.txt", "task*.json")  # not README.md, dataset_infos.json: about it
"""What is fetched of a repository for a member that has no home of its own."""


def is_on_hub(path: str) -> bool:
    """Return whether a member's `path` means the hub. A folder of that name is written `./hub`."""
    return path == HUB or path.startswith(f"{HUB}:")


def home_of(corpus: str, path: str) -> Home:
    """Return what a `path` on the hub names for a member.

    Raises:
        UsageError: it names no repository, and the member has none of its own.
    """
    own = HOMES.get(corpus)
    if path == HUB:
        if own is None:
            raise UsageError(f"corpus {corpus} has no repository of its own on the hub: write {HUB}:OWNER/NAME")
        return own
    name, _, revision = path.removeprefix(f"{HUB}:").partition("@")
    owner, _, rest = name.strip("/").partition("/")
    repository, _, folder = rest.partition("/")
    if not owner or not repository:
        raise UsageError(f"{path!r} names no repository: write {HUB}:OWNER/NAME, then /FOLDER and @REVISION if wanted")
    return Home(f"{owner}/{repository}", folder, own.files if own else ANY_TEXT, revision or "main")


@functools.cache
def snapshot(corpus: str, path: str) -> tuple[Snapshot, Path]:
    """Return the files of a `path` on the hub, and the folder that holds them. Asked once in a process, so that the
    revision stays the same while it runs.

    Raises:
        EtudeError: they cannot be had (see `etude.text.hub.fetched`).
    """
    home = home_of(corpus, path)
    inside = f"{home.folder}/" if home.folder else ""
    some = fetched(home.repository, [inside + pattern for pattern in home.files], revision=home.revision)
    return some, some.folder / home.folder


def files_of(corpus: str, path: str) -> dict[str, Path]:
    """Return the files of a `path` on the hub by their names below its folder, sorted. Others that the cache holds of
    the same revision, fetched for something else, are not among them."""
    some, folder = snapshot(corpus, path)
    return {(some.folder / name).relative_to(folder).as_posix(): some.folder / name for name in some.files}
