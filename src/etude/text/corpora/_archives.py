"""Texts inside tar archives, compressed or not, one inside another, as a stream: nothing is unpacked on the disk."""

from __future__ import annotations

import gzip
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from etude.core.errors import DamagedError, UsageError
from etude.text.reading import opened

ARCHIVES = (".gz", ".tar", ".tgz", ".xz")
"""Endings of the files that are read here."""

_DEEPEST = 3
_CHUNK = 1 << 20


def archived(path: Path) -> Iterator[str]:
    """Yield the text of every `.txt` file in a tar archive, in order, and in the archives within it.

    Each text is held whole. Bytes that are not UTF-8 come out as lone surrogates.

    Raises:
        UsageError: the file cannot be read.
        DamagedError: it is no archive, or is cut short or changed.
    """
    with opened(path) as file:
        try:
            yield from _inside(file, path.name, 1)
        except (tarfile.TarError, EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error) as error:
            raise DamagedError(f"{str(path)!r} is no whole tar archive: {error}; fetch it again") from None


def _inside(file: IO[bytes], name: str, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise UsageError(f"an archive holds archives more than {_DEEPEST} deep: unpack it first")
    with _decompressed(file, name) as data:
        with tarfile.open(fileobj=data, mode="r|") as archive:
            for member in archive:
                inner = archive.extractfile(member) if member.isfile() else None
                if inner is None:
                    continue
                if member.name.lower().endswith(".txt"):
                    yield inner.read().decode("utf-8", "surrogateescape")
                elif member.name.lower().endswith(ARCHIVES):
                    yield from _inside(inner, member.name, depth + 1)
        while data.read(_CHUNK):  # up to the checksum, which stands at the end
            pass


def _decompressed(file: IO[bytes], name: str) -> IO[bytes]:
    if name.lower().endswith(".xz"):
        return cast(IO[bytes], lzma.LZMAFile(file))
    return cast(IO[bytes], gzip.GzipFile(fileobj=file)) if name.lower().endswith((".gz", ".tgz")) else file
