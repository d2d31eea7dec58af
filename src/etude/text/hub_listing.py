"""What the hub says of one revision of a repository: its commit, its licence, its files and their hashes."""

from __future__ import annotations

import difflib
import fnmatch
import json
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from etude.core.errors import DamagedError, UsageError
from etude.core.files import write_json
from etude.text.hub_transfer import Announced, Patience, Say, http_error

_ASKING = 3
"""Tries to reach the hub before it is said that there is no network."""

_WRITING = threading.Lock()


@dataclass(frozen=True)
class Listing:
    """What the hub says.

    Attributes:
        repository: its name.
        commit: 40 hex, whatever branch or tag was asked for.
        licence: what the repository's card says.
        files: every file by its name.
    """

    repository: str
    commit: str
    licence: str
    files: Mapping[str, Announced]


def listed(repository: str, kind: str, revision: str, say: Say) -> Listing:
    """Ask the hub, or read what it said before: where it cannot be reached, and for a commit, which cannot change.

    Raises:
        Exception: the library's error, where the hub refuses, or cannot be reached and was not asked before.
        DamagedError: what answers is no hub.
    """
    from huggingface_hub.errors import HfHubHTTPError

    kept = _listing_file(repository, kind, revision)
    known = _read_listing(kept, repository)
    if known and known.commit == revision:
        return known
    try:
        listing = _asked(repository, kind, revision, say)
    except (http_error(), ConnectionError) as error:
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else 500
        if known is None or status < 500:
            raise
        say(f"the hub cannot be reached: using {repository} as it was fetched before, at {known.commit[:8]}")
        return known
    kept.parent.mkdir(parents=True, exist_ok=True)
    files = {name: [announced.size, announced.digest] for name, announced in listing.files.items()}
    with _WRITING:
        write_json(kept, {"commit": listing.commit, "licence": listing.licence, "files": files})
    return listing


def _asked(repository: str, kind: str, revision: str, say: Say) -> Listing:
    from huggingface_hub import HfApi, constants
    from huggingface_hub.hf_api import RepoFile

    api, patience = HfApi(endpoint=constants.ENDPOINT, library_name="etude"), Patience(repository, say, _ASKING)
    while True:
        try:
            info = api.repo_info(repository, repo_type=kind, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
            tree = list(api.list_repo_tree(repository, repo_type=kind, revision=info.sha, recursive=True))
            break
        except http_error() as error:
            patience.after(error)
    files = {
        entry.path: Announced(entry.lfs.size, entry.lfs.sha256) if entry.lfs else Announced(entry.size, entry.blob_id)
        for entry in tree
        if isinstance(entry, RepoFile)
    }
    commit = info.sha or ""
    hashes = [commit, *(announced.digest for announced in files.values())]
    if not all(map(_is_within, files)) or not all(re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", text) for text in hashes):
        raise DamagedError(f"{constants.ENDPOINT} does not answer as the hub does: check HF_ENDPOINT")
    return Listing(repository, commit, _licence(info), files)


def _is_within(name: str) -> bool:
    """Return whether a file's name stays inside the folder that it is put below, on any system."""
    return not re.search(r"[\\:\0]", name) and all(part not in ("", ".", "..") for part in name.split("/"))


def _licence(info: Any) -> str:
    said = (info.card_data.to_dict() if info.card_data else {}).get("license")
    said = said or [tag.removeprefix("license:") for tag in info.tags or () if tag.startswith("license:")]
    return ", ".join(map(str, said if isinstance(said, list) else [said])) or "not said by the repository's card"


def _listing_file(repository: str, kind: str, revision: str) -> Path:
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(constants.HF_HOME, "etude", repo_folder_name(repo_id=repository, repo_type=kind))
    return folder / f"{quote(revision, safe='')}.json"


def _read_listing(path: Path, repository: str) -> Listing | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        files = {name: Announced(size, digest) for name, (size, digest) in data["files"].items()}
        return Listing(repository, data["commit"], data["licence"], files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # never asked, or damaged: it is asked for again


def matching(listing: Listing, patterns: Sequence[str]) -> list[str]:
    """Return the files that names and patterns mean.

    Raises:
        UsageError: a name is of no file, or nothing is left.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        names = [name for name in sorted(listing.files) if fnmatch.fnmatchcase(name, pattern)]
        if not names and not re.search(r"[*?\[]", pattern):
            raise _no_file(listing, pattern)
        found.update(dict.fromkeys(names))
    if not found:
        raise _no_file(listing, " or ".join(patterns))
    return list(found)


def _no_file(listing: Listing, wanted: str) -> UsageError:
    nearest = difflib.get_close_matches(wanted, listing.files, n=1, cutoff=0.5)
    hint = f" did you mean {nearest[0]!r}?" if nearest else ""
    some = ", ".join(sorted(listing.files)[:8]) + (", ..." if len(listing.files) > 8 else "")
    where = f"{listing.repository} at {listing.commit[:8]}"
    return UsageError(f"{where} has no file {wanted!r}:{hint} It has: {some}")
