"""The rows of a task's file, one by one: a row that cannot be read is said, and the rest goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etude.core.errors import UsageError, unknown
from etude.text.reading import cells, columns, opened

SUFFIXES = (".csv", ".json", ".jsonl", ".parquet", ".txt")
"""Formats that hold items."""


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        where: the file and the place there, for messages.
        number: of the row, from 1.
        data: by field; of a table without a header by column, from `1`; of a text file `text`.
        about: what the file says of all its rows.
        problem: why it cannot be read, or nothing.
    """

    where: str
    number: int
    data: dict[str, Any]
    about: dict[str, Any]
    problem: str = ""

    def has(self, *names: str) -> bool:
        """Return whether the row has all of some fields."""
        return all(name in self.data for name in names)

    def text(self, name: str) -> str:
        """Return a text.

        Raises:
            UsageError: there is no such field, or it is no text.
        """
        value = self.value(name)
        if not isinstance(value, str):
            raise UsageError(f"{self.where}: {name} is {str(value)[:40]!r}, a {type(value).__name__} and no text")
        return mended(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts.

        Raises:
            UsageError: there is no such field, or it is no list of texts.
        """
        value = self.value(name)
        if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
            raise UsageError(f"{self.where}: {name} is {str(value)[:40]!r} and no list of texts")
        return tuple(map(mended, value))

    def value(self, name: str) -> Any:
        """Return a field.

        Raises:
            UsageError: there is none of that name.
        """
        if name not in self.data:
            raise unknown(f"field of {self.where}:", name, self.data)
        return self.data[name]


def rows(path: Path, header: bool = True) -> Iterator[Row]:
    """Yield the rows of a file, in order.

    Args:
        path: the file.
        header: whether the first row of a CSV file names its columns.

    Raises:
        UsageError: the file is of no format that holds items, or cannot be read at all.
    """
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise UsageError(f"{path.name!r} is no file of items: give one that ends in {', '.join(SUFFIXES)}")
    yield from read(path, header)


def _jsonl(path: Path, header: bool) -> Iterator[Row]:
    with opened(path) as file:
        written = ((number, line) for number, line in enumerate(file, 1) if line.strip())
        for order, (number, line) in enumerate(written, 1):
            where = f"{path.name}, line {number}"
            try:
                data = json.loads(line.decode("utf-8", "replace"))
            except ValueError as error:
                yield Row(where, order, {}, {}, f"{where} is not JSON: {error}")
            else:
                yield _object(where, order, data, {})


def _json(path: Path, header: bool) -> Iterator[Row]:
    """Read a list of items, or a BIG-bench task, whose items are its `examples`; or lines, as JSONL has them."""
    with opened(path) as file:
        text = file.read().decode("utf-8", "replace")
    try:
        held = json.loads(text)
    except ValueError as error:
        if _is_object(text.partition("\n")[0]):
            yield from _jsonl(path, header)
            return
        raise UsageError(f"{path.name!r} is not JSON: {error}") from None
    about = {}
    if isinstance(held, dict) and isinstance(held.get("examples"), list):
        about = {name: value for name, value in held.items() if name != "examples"}
        held = held["examples"]
    if not isinstance(held, list):
        raise UsageError(f"{path.name!r} holds neither a list of items nor a BIG-bench task with examples")
    for number, data in enumerate(held, 1):
        yield _object(f"{path.name}, item {number}", number, data, about)


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _csv(path: Path, header: bool) -> Iterator[Row]:
    table = cells(path)
    names = next(table, (0, []))[1] if header else []
    for number, (_, row) in enumerate(table, 1):
        where = f"{path.name}, row {number}"
        if header and len(row) != len(names):
            yield Row(where, number, {}, {}, f"{where} has {len(row)} columns and the header {len(names)}")
        else:
            found = names or map(str, range(1, len(row) + 1))
            yield Row(where, number, dict(zip(found, map(mended, row), strict=True)), {})


def _parquet(path: Path, header: bool) -> Iterator[Row]:
    try:
        import pyarrow.parquet
    except ImportError:
        raise UsageError(f"{path.name!r} needs pyarrow: pip install 'etude[hub]'") from None
    names = pyarrow.parquet.read_schema(path).names
    for number, values in enumerate(columns(path, names), 1):
        yield Row(f"{path.name}, row {number}", number, dict(zip(names, values, strict=True)), {})


def _txt(path: Path, header: bool) -> Iterator[Row]:
    with opened(path) as file:
        yield Row(path.name, 1, {"text": file.read().decode("utf-8", "replace")}, {})


_READERS: dict[str, Callable[[Path, bool], Iterator[Row]]] = dict(
    zip(SUFFIXES, (_csv, _json, _jsonl, _parquet, _txt), strict=True)
)


def _object(where: str, number: int, data: Any, about: dict[str, Any]) -> Row:
    if not isinstance(data, dict):
        return Row(where, number, {}, about, f"{where} is {str(data)[:40]!r} and no object with fields")
    return Row(where, number, data, about)


def mended(text: str) -> str:
    """Return a text with U+FFFD for what is no character, such as half of a pair of surrogates."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
