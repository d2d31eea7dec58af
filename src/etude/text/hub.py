"""Files of a Hugging Face repository, through the extra `hub`: fetched when a hub name is asked for, and only then.

`huggingface_hub` says what there is, who may have it and where it is kept: its cache, its login, its `HF_ENDPOINT`,
`HF_HOME` and `HF_HUB_OFFLINE` hold here. Added to it: fetches that survive a kill and go on at the byte where they were
cut (`hub_transfer`), the hash of every file checked, also of one that has been in the cache for long, what was fetched
found again without a network (`hub_listing`), and errors of one line.

Not covered: the hub's Xet protocol. Files stored that way come over plain HTTP, by which the hub serves up to 50 GB.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from etude.core.errors import DamagedError, EtudeError, UsageError
from etude.core.files import bytes_of
from etude.core.progress import Shown, tell
from etude.text.hub_listing import Listing, listed, matching
from etude.text.hub_transfer import Announced, Say, http_error, transfer

Kind = Literal["dataset", "model"]
Progress = Callable[[float, float, str, str], None]
"""Takes how much is done, of how much, the unit and a note, as `Draft.progress` does."""


@dataclass(frozen=True)
class Snapshot:
    """Files of one revision of a repository, on this machine, each with the bytes that the hub announced.

    Attributes:
        repository: its name.
        revision: the commit, 40 hex, whatever branch or tag was asked for.
        licence: what the repository's card says, as in `cc-by-sa-3.0`, or that it says nothing.
        folder: holds the files under their names in the repository; it may hold others, fetched at another time.
        files: the names that were asked for, sorted.
    """

    repository: str
    revision: str
    licence: str
    folder: Path
    files: tuple[str, ...]


def fetched(
    repository: str, files: Sequence[str], *, kind: Kind = "dataset", revision: str = "main",
    say: Say = tell, progress: Progress | None = None,
) -> Snapshot:  # fmt: skip
    """Return files of a repository, fetching those that are not in the cache. Several processes may ask at once.

    Without a network, what was fetched before is returned, and that is said; for a commit whose files are all there the
    hub is not asked at all.

    Args:
        repository: `OWNER/NAME`.
        files: names, each of which must be there, and patterns such as `plain_text/*.parquet` (`*` also matches `/`).
        kind: `dataset` or `model`.
        revision: a branch, tag or commit.
        say: takes lines for the person: licence and size of what is fetched, and each wait.
        progress: is told how far it is; left out, standard error is.

    Raises:
        UsageError: the extra is missing; there is no such repository, revision or file; or it may not be had.
        DamagedError: a file has other bytes than the hub announced; it was removed.
        EtudeError: there is no network and nothing in the cache, the hub stays busy, or the disk is full.
    """
    _library()
    with _one_line(repository, kind, revision):
        listing = listed(repository, kind, revision, say)
        wanted = {name: listing.files[name] for name in matching(listing, files)}
        shelf = _Shelf(listing, kind)
        missing = {name: announced for name, announced in wanted.items() if not shelf.has(name, announced, say)}
        if missing:
            total = sum(announced.size for announced in missing.values())
            shelf.require_room(total - sum(map(shelf.begun, missing.values())))
            say(
                f"{repository} at {listing.commit[:8]}: fetching {len(missing)} of {len(wanted)} files,"
                f" {bytes_of(total)}; licence: {listing.licence}"
            )
            done, shown = 0, progress or Shown()
            for name, announced in missing.items():
                shelf.put(name, announced, say, lambda there, d=done, n=name: shown(d + there, total, "bytes", n))
                done += announced.size
        return Snapshot(repository, listing.commit, listing.licence, shelf.folder, tuple(sorted(wanted)))


# where it is kept


@dataclass(frozen=True)
class _Shelf:
    """A revision's place in the library's cache: `blobs` by hash, and `snapshots` by name that point to them."""

    listing: Listing
    kind: Kind

    @property
    def root(self) -> Path:
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        return Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=self.listing.repository, repo_type=self.kind))

    @property
    def folder(self) -> Path:
        return self.root / "snapshots" / self.listing.commit

    def has(self, name: str, announced: Announced, say: Say) -> bool:
        """Return whether a file is there with its bytes; one with other bytes is removed."""
        path = self.folder / name
        if not path.exists():
            return False
        try:
            announced.check(path.resolve(), f"{self.listing.repository} {name}")
        except DamagedError:
            path.unlink(missing_ok=True)  # the pointer to what `check` removed
            say(f"{self.listing.repository} {name}: the cached file was damaged; fetching it again")
            return False
        return True

    def part(self, announced: Announced) -> Path:
        """Return where the bytes of a file are kept until all are there."""
        return self.root / "blobs" / f"{announced.digest}.etude.incomplete"

    def begun(self, announced: Announced) -> int:
        """Return how many bytes of a file are there."""
        part = self.part(announced)
        return min(part.stat().st_size, announced.size) if part.exists() else 0

    def require_room(self, needed: int) -> None:
        standing = next(p for p in (self.root, *self.root.absolute().parents) if p.exists())
        if needed > (free := shutil.disk_usage(standing).free):
            raise EtudeError(
                f"{self.listing.repository} needs {bytes_of(needed)} and the disk of {str(standing)!r} has"
                f" {bytes_of(free)} free; make room, or name another folder in HF_HOME"
            )

    def put(self, name: str, announced: Announced, say: Say, progress: Callable[[int], None]) -> None:
        """Fetch one file. Who asks for it meanwhile waits, and then finds it."""
        from huggingface_hub import constants, hf_hub_download, hf_hub_url
        from huggingface_hub.utils import build_hf_headers

        listing, endpoint = self.listing, constants.ENDPOINT
        what = f"{listing.repository} {name}"
        blob = self.root / "blobs" / announced.digest
        blob.parent.mkdir(parents=True, exist_ok=True)
        with self._alone(announced, what, say):
            if not blob.exists():
                part = self.part(announced)
                url = hf_hub_url(
                    listing.repository, name, repo_type=self.kind, revision=listing.commit, endpoint=endpoint
                )
                transfer(url, build_hf_headers(library_name="etude"), part, announced, what, say, progress)
                part.replace(blob)
        # The library finds the bytes and makes the pointer to them, or a copy where there are no symbolic links.
        made = hf_hub_download(
            listing.repository, name, repo_type=self.kind, revision=listing.commit, endpoint=endpoint
        )
        announced.check(Path(made).resolve(), what)

    @contextmanager
    def _alone(self, announced: Announced, what: str, say: Say) -> Iterator[None]:
        """Hold a file's lock, which the system frees when its holder dies."""
        path = self.root.parent / ".locks" / self.root.name / f"{announced.digest}.etude.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0.1)
        except Timeout:
            say(f"{what}: it is being fetched already; waiting for it")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


# what goes wrong


def _library() -> None:
    try:
        import huggingface_hub  # noqa: F401
    except ImportError:
        raise UsageError("files of the hub need huggingface_hub: pip install 'etude[hub]'") from None


@contextmanager
def _one_line(repository: str, kind: Kind, revision: str) -> Iterator[None]:
    """Turn the library's errors into ours."""
    from huggingface_hub import constants, errors

    hub = constants.ENDPOINT
    login = "log in with `hf auth login`, or set HF_TOKEN"
    try:
        yield
    except errors.HFValidationError:
        raise UsageError(f"{repository!r} is no name of a repository: give OWNER/NAME") from None
    except errors.GatedRepoError:
        page = f"{hub}/{'datasets/' if kind == 'dataset' else ''}{repository}"
        raise UsageError(f"the {kind} {repository} is gated: accept its terms at {page}, and {login}") from None
    except errors.RepositoryNotFoundError:
        raise UsageError(f"{hub} has no {kind} {repository!r}, or it is private: check the name, or {login}") from None
    except errors.RevisionNotFoundError:
        raise UsageError(
            f"the {kind} {repository} has no revision {revision!r}: give a branch, tag or commit"
        ) from None
    except errors.EntryNotFoundError as error:
        name = str(getattr(getattr(error, "response", None), "url", "a file")).partition("?")[0]
        raise UsageError(f"{name} is listed and not there: the {kind} has moved on, fetch it again") from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise UsageError(f"{hub} refuses the {kind} {repository} ({status}): {login}") from None
        raise EtudeError(
            f"{hub} answers {status} for {repository}: try again later; what came so far is kept"
        ) from None
    except (http_error(), errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise EtudeError(
            f"cannot reach {hub} for {repository} ({reason}): check the network and HF_ENDPOINT, or give the path of a"
            " folder with the files; what came so far is kept"
        ) from None
    except OSError as error:
        raise EtudeError(
            f"cannot keep {repository} in {constants.HF_HUB_CACHE!r} ({error.strerror or error}): make room or give"
            " rights, or name another folder in HF_HOME"
        ) from None
