"""One file over HTTP: gone on with where it was cut, patient with a busy server, kept only if its bytes are right.

The library's own download is not used for the bytes: in its version 2 one that is killed begins again. What is put into
its cache has the name and place that it documents, so it, and whatever else uses it, finds the file there.
"""

from __future__ import annotations

import email.utils
import errno
import functools
import hashlib
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etude.core.errors import DamagedError, EtudeError

FIRST_WAIT, LAST_WAIT = 1.0, 16.0
"""Seconds before the second try, and the most that a wait grows to by doubling."""

LONGEST_WAIT = 600.0
"""Seconds that a server may ask for before the fetch is given up instead."""

TRIES = 6
"""Tries without a single new byte."""

_BUSY = (408, 425, 429, 500, 502, 503, 504)
_CHUNK = 1 << 20

Say = Callable[[str], None]


def http_error() -> type[Exception]:
    """Return what the library raises for a cut connection and derives its own errors from: httpx's, or httpx2's in its
    version 2."""
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]

    return HTTPError


@dataclass(frozen=True)
class Announced:
    """What the hub says of a file.

    Attributes:
        size: bytes.
        digest: 64 hex of SHA-256 for a file in large file storage, else 40 hex of git's SHA-1 of a blob.
    """

    size: int
    digest: str

    def check(self, path: Path, what: str) -> None:
        """Compare a file with this. What was compared once is not read again while its size and time stay.

        Raises:
            DamagedError: its bytes are others. The file is removed.
        """
        stat = path.stat()
        found = digest_of(path, len(self.digest) == 64, stat.st_size, stat.st_mtime_ns)
        if found != self.digest:
            path.unlink()
            raise DamagedError(
                f"{what}: the {stat.st_size} bytes that came have the hash {found[:12]} and the hub announces"
                f" {self.digest[:12]} for {self.size} bytes; the damaged file was removed: fetch it again, and if that"
                " does not help, tell the repository's owner"
            )


@functools.lru_cache(maxsize=1 << 12)
def digest_of(path: Path, large: bool, size: int, changed: int) -> str:
    """Return the hash of a file as the hub writes it: SHA-256, or git's SHA-1 of a blob with its length before it."""
    digest = hashlib.sha256() if large else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@dataclass
class Patience:
    """Waits between tries, twice as long each time or as long as the server asks, and gives up after `tries`.

    Attributes:
        what: what is tried, for the messages.
        say: takes a line before each wait.
        tries: how many failures in a row are one too many.
    """

    what: str
    say: Say
    tries: int = TRIES
    failed: int = 0

    def after(self, error: Exception) -> None:
        """Wait before the next try.

        Raises:
            EtudeError: the server asks for a longer wait than anyone would sit through.
            Exception: the error itself, where another try would not help or there were enough.
        """
        response = getattr(error, "response", None)
        status = getattr(response, "status_code", None)
        self.failed += 1
        if (status is not None and status not in _BUSY) or self.failed >= self.tries:
            raise error
        asked = asked_wait(response.headers) if response is not None else None
        if asked is not None and asked > LONGEST_WAIT:
            raise EtudeError(
                f"{self.what}: the hub ({status}) asks to wait {asked:.0f} s: come back then; what came so far is kept"
            ) from None
        wait = asked if asked is not None else min(FIRST_WAIT * 2 ** (self.failed - 1), LAST_WAIT)
        reason = f"the hub is busy ({status})" if status else f"the connection failed ({type(error).__name__})"
        self.say(f"{self.what}: {reason}; trying again in {wait:.0f} s ({self.failed} of {self.tries - 1})")
        time.sleep(wait)


def asked_wait(headers: Any) -> float | None:
    """Return how many seconds a response asks to wait, by `Retry-After` (seconds or a date) or `RateLimit`."""
    said = headers.get("retry-after", "").strip()
    if said.isdigit():
        return float(said)
    with suppress(ValueError):
        return max(0.0, email.utils.parsedate_to_datetime(said).timestamp() - time.time())
    limit = headers.get("ratelimit", "")  # as in: "api";r=0;t=55
    reset = re.search(r"\bt=(\d+)", limit) if re.search(r"\br=0\b", limit) else None
    return float(reset[1]) if reset else None


def transfer(
    url: str, headers: dict[str, str], part: Path, announced: Announced, what: str, say: Say,
    progress: Callable[[int], None],
) -> None:  # fmt: skip
    """Bring a file's bytes to `part`, from the byte at which an earlier process or a cut connection left it, and check
    them. A file that was gone on with and came out wrong is fetched once more from its start.

    Args:
        url: where it is.
        headers: sent with each request.
        part: where the bytes go; the caller holds its lock.
        announced: what they must be.
        what: the file's name for messages.
        say: takes a line for each wait.
        progress: takes how many of the file's bytes are there.

    Raises:
        DamagedError: the bytes are not the announced ones. They were removed.
        EtudeError: the disk is full, or the server asks to come back much later.
        Exception: the library's error for what the server refuses, or for the last cut of too many.
    """
    began_before = part.exists()
    _bring(url, headers, part, announced.size, Patience(what, say), progress)
    try:
        announced.check(part, what)
    except DamagedError:
        if not began_before:
            raise
        say(f"{what}: what an earlier fetch left does not fit; fetching it from the start")
        _bring(url, headers, part, announced.size, Patience(what, say), progress)
        announced.check(part, what)


def _bring(
    url: str, headers: dict[str, str], part: Path, size: int, patience: Patience, progress: Callable[[int], None]
) -> None:
    part.touch()
    while (there := part.stat().st_size) < size or (there > size and _emptied(part)):
        try:
            _stream(url, headers, part, progress)
            if part.stat().st_size < size:
                raise http_error()("the answer ended early")
        except http_error() as error:
            if part.stat().st_size > there:
                patience.failed = 0
            patience.after(error)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise EtudeError(
                f"{patience.what}: the disk of {str(part.parent)!r} is full; make room, or name another folder in"
                " HF_HOME: what came so far is kept"
            ) from None


def _emptied(part: Path) -> bool:
    part.write_bytes(b"")
    return True


def _stream(url: str, headers: dict[str, str], part: Path, progress: Callable[[int], None]) -> None:
    """Ask for the rest of a file and append it."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session, hf_raise_for_status

    there = part.stat().st_size
    asked = {**headers, "Accept-Encoding": "identity", **({"Range": f"bytes={there}-"} if there else {})}
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", url, headers=asked, timeout=timeout, follow_redirects=True) as response:
        if response.status_code == 416:
            _emptied(part)  # the server has fewer bytes than were kept: they are of something else
            return
        hf_raise_for_status(response)
        sent = response.headers.get("content-range", "") if response.status_code == 206 else ""
        if there and not sent.startswith(f"bytes {there}-"):
            there = 0  # the server does not know ranges and sends the whole
        with part.open("ab" if there else "wb") as file:
            progress(there)
            for chunk in response.iter_bytes():
                file.write(chunk)
                there += len(chunk)
                progress(there)
