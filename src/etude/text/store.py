"""The token store: a split's tokens as one file, read through memory mapping. `store_writer` makes it.

Layout, all numbers little-endian:

    0      8 bytes    the letters ETUDETOK
    8      uint32     version of this layout
    12     uint32     length of the JSON below
    16     32 bytes   sha256 of the JSON below
    48     JSON       what `Header` holds, padded with zeros up to the byte that it calls `start`: 4096, or a greater
                      multiple of it where the names of the classes need the room
    start  tokens     uint16, or uint32 where the vocabulary has more than 65,536, padded to a multiple of 8 bytes
    then   uint64     where each document starts, counted in tokens, and after them the number of tokens
    then   int64      the label of each document, where there are classes
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from etude.core.errors import DamagedError

MAGIC, VERSION = b"ETUDETOK", 2

START = struct.Struct("<8sII32s")
"""What stands before the header: letters, version, length and hash."""

PAGE = 4096
"""The tokens start at a multiple of it."""


LARGE = 256 << 20
"""Bytes of numbers from which the system is told that they are read here and there, so that it does not read ahead: of
windows that is many times what is wanted. Smaller ones are soon in memory whole, and sooner with it."""


@dataclass(frozen=True)
class Header:
    """What a store says of itself.

    Attributes:
        dtype: of the tokens, as NumPy writes it: `<u2` or `<u4`.
        count: how many tokens.
        documents: how many documents.
        bytes: how many bytes of UTF-8 the tokens stand for, separators not counted.
        vocabulary: every token is below it.
        openings: 0 for whole documents, each followed by the separator; N for the first N tokens of each, at most.
        classes: names of the documents' labels; empty where they have none.
        sides: names of the documents that make one sample together, in their order; empty where each stands alone.
        start: byte at which the tokens start.
        sha256: hash of everything from there on.
    """

    dtype: str
    count: int
    documents: int
    bytes: int
    vocabulary: int
    openings: int
    classes: tuple[str, ...]
    sides: tuple[str, ...]
    start: int
    sha256: str

    @property
    def tokens_end(self) -> int:
        """Byte at which the tokens end."""
        return self.start + self.count * np.dtype(self.dtype).itemsize

    @property
    def documents_start(self) -> int:
        """Byte at which the document boundaries start."""
        return -(-self.tokens_end // 8) * 8

    @property
    def labels_start(self) -> int:
        """Byte at which the labels start, where there are any."""
        return self.documents_start + 8 * (self.documents + 1)

    @property
    def file_bytes(self) -> int:
        """How long the file is."""
        return self.labels_start + (8 * self.documents if self.classes else 0)


def dtype_for(vocabulary: int) -> str:
    """Return the smallest type of token that holds a vocabulary."""
    return "<u2" if vocabulary <= 1 << 16 else "<u4"


class TokenStore:
    """A store that is read. Opening checks the header and the length; `verify` reads everything and checks the hash."""

    def __init__(self, path: Path, header: Header) -> None:
        """Take a header that was checked. Use `open`."""
        self.path, self.header = path, header
        self.tokens = _mapped(path, header.dtype, header.start, header.count)
        self.documents = _mapped(path, "<u8", header.documents_start, header.documents + 1)
        self.labels: np.ndarray | None = (
            _mapped(path, "<i8", header.labels_start, header.documents) if header.classes else None
        )

    @classmethod
    def open(cls, path: Path | str) -> TokenStore:
        """Open a store.

        Raises:
            DamagedError: it is missing, no store, of another version, cut short, or its header was changed.
        """
        path = Path(path)
        try:
            with path.open("rb") as file:
                start = file.read(PAGE)
                start += file.read(max(0, _header_bytes(start) - PAGE))
                size = os.fstat(file.fileno()).st_size
        except OSError as error:
            raise DamagedError(f"cannot read the token store {str(path)!r}: {error.strerror}") from None
        header = _parse(path, start)
        if size != header.file_bytes:
            state = "cut short" if size < header.file_bytes else "too long"
            raise _damaged(path, f"is {state}: {size} bytes, and its header says {header.file_bytes}")
        return cls(path, header)

    @property
    def count(self) -> int:
        """How many tokens, separators among them."""
        return self.header.count

    @property
    def bytes(self) -> int:
        """How many bytes of UTF-8 the tokens stand for."""
        return self.header.bytes

    @property
    def sha256(self) -> str:
        """Hash of the tokens, the document boundaries and the labels."""
        return self.header.sha256

    @property
    def vocabulary(self) -> int:
        """How many ids the tokenizer has."""
        return self.header.vocabulary

    @property
    def openings(self) -> int:
        """0 for whole documents, N where only the first N tokens of each were kept."""
        return self.header.openings

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the documents' labels; empty where they have none, and `labels` is None."""
        return self.header.classes

    @property
    def label_counts(self) -> list[int]:
        """How many documents have each label."""
        labels = np.empty(0, np.int64) if self.labels is None else self.labels
        return np.bincount(labels, minlength=len(self.classes)).tolist()

    @property
    def sides(self) -> tuple[str, ...]:
        """Names of the documents that make one sample together: with two, documents 0 and 1 are the first pair."""
        return self.header.sides

    def verify(self) -> None:
        """Read everything.

        Raises:
            DamagedError: it is not what was written.
        """
        with self.path.open("rb") as file:
            file.seek(self.header.start)
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.sha256:
            raise _damaged(self.path, f"was changed: its sha256 is {found[:12]} and its header says {self.sha256[:12]}")


def _parse(path: Path, start: bytes) -> Header:
    if len(start) < START.size or not start.startswith(MAGIC):
        raise _damaged(path, "is no token store, or is cut short")
    _, version, length, digest = START.unpack_from(start)
    if version != VERSION:
        raise DamagedError(
            f"the token store {str(path)!r} has version {version} and this Etude reads version {VERSION}: make it again"
        )
    data = start[START.size : START.size + length]
    if hashlib.sha256(data).digest() != digest:
        raise _damaged(path, "has a header that was changed or cut short")
    found = json.loads(data)
    return Header(**{**found, "classes": tuple(found["classes"]), "sides": tuple(found["sides"])})


def _header_bytes(start: bytes) -> int:
    """Return how many bytes the header takes that begins so, at most a mebibyte: what was damaged may say anything."""
    length = START.unpack_from(start)[2] if len(start) >= START.size else 0
    return min(START.size + length, 1 << 20)


def _mapped(path: Path, dtype: str, at: int, count: int) -> np.ndarray:
    """Map numbers of a file into memory. A mapping of nothing is an error, and a store of nothing is not."""
    if not count:
        return np.empty(0, dtype)
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if count * np.dtype(dtype).itemsize >= LARGE and hasattr(mmap, "MADV_RANDOM"):
        mapped.madvise(mmap.MADV_RANDOM)
    return np.frombuffer(mapped, dtype, count, at)


def _damaged(path: Path, how: str) -> DamagedError:
    return DamagedError(f"the token store {str(path)!r} {how}; remove its run and make it again")
