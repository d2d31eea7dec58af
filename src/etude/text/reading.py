"""Reading text out of files of the usual formats, as a stream: memory does not grow with the file.

Bytes that are not UTF-8 come out as lone surrogates (`surrogateescape`), which `Document` replaces and counts.
"""

from __future__ import annotations

import codecs
import csv
import functools
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TextIO, TypeVar, cast

from etude.core.errors import DamagedError, UsageError, unknown

T = TypeVar("T")

TEXTS = (".md", ".txt")
"""Formats that hold one text each."""

_CHUNK = 1 << 20
_AHEAD = 1 << 16
_SEE = "--corpus.text-field"
_PLACE = re.compile(rb"(?<=[^ \t\r\n\f\v])[ \n]")
_MARKS = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}


def once_a_file(read: Callable[[Path], T]) -> Callable[[Path], T]:
    """Return a function that reads each file once in a process, while its size and time of change stay."""

    @functools.lru_cache(maxsize=1 << 16)
    def kept(path: Path, size: int, changed: int) -> T:
        return read(path)

    @functools.wraps(read)
    def asked(path: Path) -> T:
        stat = path.stat()
        return kept(path, stat.st_size, stat.st_mtime_ns)

    return asked


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """Open a file's bytes, after the mark that some programs put before UTF-8.

    Raises:
        UsageError: the file cannot be read, or is UTF-16.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(3)
            if start[:2] in _MARKS:
                raise UsageError(f"{str(path)!r} is UTF-16: convert it with iconv -f UTF-16 -t UTF-8")
            file.seek(3 if start == codecs.BOM_UTF8 else 0)
            yield file
    except OSError as error:
        raise UsageError(f"cannot read {str(path)!r}: {error.strerror or error}; check its path and rights") from None


def stretches(path: Path, start: float = 0.0, stop: float = 1.0) -> Iterator[str]:
    """Yield the text between two shares of a file's length, each moved on to the next space or line feed after a word,
    so that neighbouring shares have no character in common and leave none out."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    first, last = place(path, start), place(path, stop)
    with opened(path) as file:
        file.seek(max(first, file.tell()))
        while (left := last - file.tell()) > 0 and (chunk := file.read(min(left, _CHUNK))):
            yield decoder.decode(chunk)
    yield decoder.decode(b"", final=True)


def place(path: Path, share: float) -> int:
    """Return the byte at which a share of a file's length ends: the first space or line feed that follows a word at or
    after it, or, where none comes within 64 KiB, the first byte that begins a character."""
    size = path.stat().st_size
    at = int(size * share)
    if at in (0, size):
        return at
    with opened(path) as file:
        file.seek(at - 1)
        ahead = file.read(_AHEAD)
    found = _PLACE.search(ahead)
    if found:
        return at - 1 + found.start()
    if len(ahead) < _AHEAD:
        return size
    return at + next((n for n, byte in enumerate(ahead[1:5]) if byte & 0xC0 != 0x80), 0)


@once_a_file
def invalid_bytes(path: Path) -> int:
    """Return how many bytes of a file are not UTF-8. Kept while its size and time of change stay."""
    return sum(len(re.findall("[\ud800-\udfff]", text)) for text in stretches(path) if not text.isascii())


def rows(path: Path, field: str) -> Iterator[str]:
    """Yield the texts of a file that holds many, in order, empty ones too.

    Args:
        path: a file whose ending is a key of `ROWS`.
        field: the key, or the column, that holds the text. A CSV file without a header takes a number, from 1.

    Raises:
        UsageError: the file is not of its format, or has no such field.
    """
    return ROWS[path.suffix.lower()](path, field)


def lines(path: Path, encoding: str = "utf-8") -> Iterator[str]:
    r"""Yield the lines of a text file, or of one inside gzip (`.gz`), each with its `\n`. No other character ends one.

    Raises:
        UsageError: the file cannot be read.
        DamagedError: what is compressed is cut short or was changed.
    """
    with opened(path) as raw:
        file = gzip.GzipFile(fileobj=raw) if path.suffix.lower() == ".gz" else raw
        try:
            with io.TextIOWrapper(cast(IO[bytes], file), encoding, "surrogateescape", newline="\n") as text:
                yield from text
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DamagedError(f"{str(path)!r} is damaged gzip: {error}; fetch it again") from None


def cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a CSV file that are not empty, each with the number of the line on which it ends.

    Raises:
        UsageError: the file is not CSV.
    """
    csv.field_size_limit(2**31 - 1)  # the default refuses an article of 128 KiB
    with _decoded(path) as file:
        table = csv.reader(file)
        try:
            for row in filter(None, table):
                yield table.line_num, row
        except csv.Error as error:
            raise UsageError(f"{str(path)!r} line {table.line_num} is not CSV: {error}") from None


def objects(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield what the lines of a JSONL file hold, each with its line's number; empty lines are left out.

    Raises:
        UsageError: a line is not JSON.
    """
    with opened(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield number, json.loads(line.decode("utf-8", "surrogateescape"))
                except ValueError as error:
                    raise UsageError(f"{str(path)!r} line {number} is not JSON: {error}") from None


def columns(path: Path, names: Sequence[str], see: str = "") -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a Parquet file: of each, the values of some columns, in the order of the names.

    Raises:
        UsageError: the file is not Parquet, has no such column, or pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UsageError(f"{str(path)!r} needs pyarrow: pip install 'etude[hub]'") from None
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for name in names:
                _column(path, name, file.schema_arrow.names, see)
            for batch in file.iter_batches(batch_size=1000, columns=list(names)):
                yield from zip(*(batch.column(name).to_pylist() for name in names), strict=True)
    except (pyarrow.ArrowException, OSError) as error:
        raise UsageError(f"cannot read {str(path)!r} as Parquet: {str(error).splitlines()[0]}") from None


def text_of(path: Path, number: int, value: Any) -> str:
    """Return the text in a row of a Parquet file; where the row holds nothing, an empty one.

    Raises:
        UsageError: it holds something else.
    """
    return _text(path, f"row {number}", "" if value is None else value)


@contextmanager
def _decoded(path: Path) -> Iterator[TextIO]:
    with opened(path) as file, io.TextIOWrapper(file, "utf-8", "surrogateescape", newline="") as text:
        yield text


def _csv(path: Path, field: str) -> Iterator[str]:
    table = cells(path)
    column = int(field) - 1 if field.isdecimal() else _column(path, field, next(table, (0, []))[1], _SEE)
    for number, row in table:
        if not 0 <= column < len(row):
            raise UsageError(f"{str(path)!r} line {number} has {len(row)} columns, and no {column + 1}")
        yield row[column]


def _jsonl(path: Path, field: str) -> Iterator[str]:
    for number, row in objects(path):
        yield _field(path, f"line {number}", row, field)


def _json(path: Path, field: str) -> Iterator[str]:
    with _decoded(path) as file:
        for number, item in enumerate(_Items(path, file), 1):
            yield _field(path, f"item {number}", item, field)


def _parquet(path: Path, field: str) -> Iterator[str]:
    for number, (value,) in enumerate(columns(path, [field], _SEE), 1):
        yield text_of(path, number, value)


ROWS: dict[str, Callable[[Path, str], Iterator[str]]] = {
    ".csv": _csv, ".json": _json, ".jsonl": _jsonl, ".parquet": _parquet
}  # fmt: skip
"""Formats that hold many texts each, with what reads them."""


def _column(path: Path, field: str, names: list[str], see: str) -> int:
    if field not in names:
        raise unknown(f"column of {path.name}", field, names, see=see)
    return names.index(field)


def _field(path: Path, where: str, row: Any, field: str) -> str:
    if isinstance(row, str):
        return row
    if not isinstance(row, dict):
        raise UsageError(f"{str(path)!r} {where} is neither a text nor an object with the field {field!r}")
    if field not in row:
        raise unknown(f"field of {path.name}, {where},", field, row, see=_SEE)
    return _text(path, where, row[field])


def _text(path: Path, where: str, value: Any) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{str(path)!r} {where}: the text is {str(value)[:40]!r}, a {type(value).__name__}")
    return value


class _Items:
    """The items of a JSON list, or the values of a JSON object, parsed one at a time."""

    longest = 1 << 26

    def __init__(self, path: Path, file: TextIO) -> None:
        self._path, self._file = path, file
        self._held, self._at = "", 0

    def __iter__(self) -> Iterator[Any]:
        keyed = self._take("[{") == "{"
        end = "}" if keyed else "]"
        while self._peek() != end:
            if keyed:
                self._value()
                self._take(":")
            yield self._value()
            if self._peek() != end:
                self._take(",")

    def _more(self) -> bool:
        chunk = self._file.read(_CHUNK)
        self._held, self._at = self._held[self._at :] + chunk, 0
        return bool(chunk)

    def _peek(self) -> str:
        while True:
            while self._at < len(self._held) and self._held[self._at].isspace():
                self._at += 1
            if self._at < len(self._held):
                return self._held[self._at]
            if not self._more():
                return ""

    def _take(self, choices: str) -> str:
        found = self._peek()
        if not found or found not in choices:
            raise self._malformed(f"expected {' or '.join(choices)}, found {found!r}")
        self._at += 1
        return found

    def _value(self) -> Any:
        self._peek()
        while True:
            try:
                value, end = json.JSONDecoder().raw_decode(self._held, self._at)
                if end < len(self._held) or not self._more():  # a number may go on in the next chunk
                    self._at = end if end < len(self._held) else len(self._held)
                    return value
            except ValueError as error:
                if len(self._held) - self._at > self.longest or not self._more():
                    raise self._malformed(str(error)) from None

    def _malformed(self, problem: str) -> UsageError:
        return UsageError(
            f"{str(self._path)!r} is not a JSON list of texts: {problem}; a file of one object a line is named .jsonl"
        )
