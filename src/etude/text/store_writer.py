"""Writing a token store as a stream, in the layout that `etude.text.store` reads."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import struct
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np

from etude.core.errors import EtudeError
from etude.core.files import replacing
from etude.text.store import MAGIC, PAGE, START, VERSION, Header, dtype_for

_CHUNK = 1 << 20

_TOGETHER = 1 << 16
"""Tokens that are checked and written at once."""


class StoreWriter:
    """Writes a store token by token, in memory that does not grow, under another name until it is whole.

    Used in a `with` block; the file is there, complete, when the block ends without an error, and not at all if not.
    A full disk, or another failure of the system in the block, becomes an EtudeError that names the file.

    Args:
        path: the file to make.
        vocabulary: every token is below it.
        openings: noted in the header.
        classes: names of the labels; with any, each document needs one.
        sides: names of the documents that make one sample together; with any, documents come in groups of so many.
    """

    def __init__(
        self, path: Path, vocabulary: int, openings: int = 0, classes: Sequence[str] = (), sides: Sequence[str] = ()
    ) -> None:
        self.path, self.vocabulary, self.openings = path, vocabulary, openings
        self.classes, self.sides = tuple(classes), tuple(sides)
        self._dtype = dtype_for(vocabulary)
        most = START.size + len(self._described(2**63, 2**63, 2**63, 2**63, "0" * 64)[1])
        self._start = -(-most // PAGE) * PAGE
        self._count = self._documents = self._bytes = self._begun = 0
        self._hash = hashlib.sha256()
        self._held: list[int] = []
        self._resources = ExitStack()
        self.header: Header | None = None

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            self._temporary = opening.enter_context(replacing(self.path))
            self._boundaries, self._labels = self._beside("documents", opening), self._beside("labels", opening)
            self._file: IO[bytes] = opening.enter_context(self._temporary.open("wb", buffering=_CHUNK))
            self._file.write(bytes(self._start))
            self._resources = opening.pop_all()
        return self

    def add(self, ids: Sequence[int] | np.ndarray, bytes: int) -> None:
        """Append tokens of the current document.

        Args:
            ids: the tokens.
            bytes: how many bytes of UTF-8 they stand for; 0 for a separator.

        Raises:
            EtudeError: a token, of these or of earlier ones, is not below the vocabulary.
        """
        self._held.extend(ids)
        self._count += len(ids)
        self._bytes += bytes
        if len(self._held) >= _TOGETHER:
            self._write_tokens()

    def _write_tokens(self) -> None:
        """Write the tokens that are held. One by one, the documents of a corpus of lines take as long as encoding."""
        array = np.asarray(self._held, dtype=np.int64)
        self._held = []
        if array.size and not (array.min() >= 0 and array.max() < self.vocabulary):
            wrong = array.min() if array.min() < 0 else array.max()
            raise EtudeError(f"token {wrong} does not fit a vocabulary of {self.vocabulary}")
        self._write(array.astype(self._dtype).tobytes())

    def end_document(self, label: int | None = None) -> None:
        """Say that the tokens since the last call are one document.

        Raises:
            EtudeError: the label is none of the classes.
        """
        if self.classes or label is not None:
            self._labels.write(struct.pack("<q", self._checked(label)))
        self._boundaries.write(struct.pack("<Q", self._begun))
        self._begun = self._count
        self._documents += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._resources:  # closes and tidies, and puts the file in its place unless an error passes through
                if error is not None:
                    raise error
                self._complete()
        except OSError as failure:
            raise self._failed(failure) from None

    def _complete(self) -> None:
        """Append the document boundaries, write the header over the room left for it, and flush to the disk."""
        self._write_tokens()
        if self._begun != self._count:
            raise EtudeError("the last document was not ended: call end_document")
        if self.sides and self._documents % len(self.sides):
            raise EtudeError(f"{self._documents} documents make no groups of {len(self.sides)}, one a side")
        self._write(bytes(-self._file.tell() % 8))
        self._boundaries.write(struct.pack("<Q", self._count))
        for spool in (self._boundaries, self._labels):
            spool.seek(0)
            while chunk := spool.read(_CHUNK):
                self._write(chunk)
        self.header, data = self._described(
            self._count, self._documents, self._bytes, self._start, self._hash.hexdigest()
        )
        self._file.seek(0)
        self._file.write(START.pack(MAGIC, VERSION, len(data), hashlib.sha256(data).digest()) + data)
        self._file.flush()
        os.fsync(self._file.fileno())

    def _described(self, count: int, documents: int, bytes: int, start: int, sha256: str) -> tuple[Header, bytes]:
        """Return the header of a store with these numbers, and how it is written."""
        fixed = (self.vocabulary, self.openings, self.classes, self.sides)
        header = Header(self._dtype, count, documents, bytes, *fixed, start, sha256)
        return header, json.dumps(dataclasses.asdict(header)).encode()

    def _beside(self, what: str, opening: ExitStack) -> IO[bytes]:
        """Open a file for what comes after the tokens; it goes when the store is whole."""
        path = self._temporary.with_name(f"{self._temporary.name}-{what}")
        opening.callback(path.unlink, missing_ok=True)
        return opening.enter_context(path.open("w+b", buffering=_CHUNK))

    def _checked(self, label: int | None) -> int:
        if not self.classes:
            raise EtudeError(f"document {self._documents} has the label {label} and there are no classes")
        if label is None or not 0 <= label < len(self.classes):
            raise EtudeError(
                f"document {self._documents} has the label {label}, and the {len(self.classes)} classes"
                f" ({', '.join(self.classes)}) are numbered from 0"
            )
        return label

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)

    def _failed(self, error: OSError) -> EtudeError:
        remedy = "; make room and run again" if error.errno == errno.ENOSPC else ""
        return EtudeError(f"cannot write {str(self.path)!r}: {error.strerror}{remedy}")
