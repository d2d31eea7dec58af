"""What goes to standard output: the answer, as tables and lines for a person or as JSON for a program."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

AsJson = Annotated[
    bool, Parameter(name="--json", negative=(), show_default=False, help="print JSON alone, for programs.")
]
RunsFolder = Annotated[
    Path | None, Parameter(name="--runs", help="the folder of runs. By default $ETUDE_RUNS, else runs.")
]


def say(line: str = "") -> None:
    """Print one line of the answer."""
    print(line)


def say_prose(line: str = "") -> None:
    """Print a line of prose at once: on a terminal it is broken between words, and what follows is set in as it is."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        ahead = " " * (len(line) - len(line.lstrip()))
        line = textwrap.fill(
            line, width, subsequent_indent=ahead, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
        )
    print(line, flush=True)


def say_json(data: Any) -> None:
    """Print the answer as JSON."""
    print(json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False))


def say_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Print rows under named columns: fitted to the window on a terminal, else in full.

    Args:
        columns: the headings.
        rows: as many cells each.
        right: the columns that are set flush right.
    """
    if sys.stdout.isatty():
        _rich_table(columns, rows, right)
        return
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    for row in [columns, *rows]:
        cells = zip(columns, row, widths, strict=True)
        line = (cell.rjust(width) if name in right else cell.ljust(width) for name, cell, width in cells)
        print("  ".join(line).rstrip())


def _rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


def near(path: Path) -> str:
    """Return a path as a person types it from here: relative where it lies below this folder."""
    full = Path(os.path.abspath(path))
    return str(full.relative_to(Path.cwd())) if full.is_relative_to(Path.cwd()) else str(full)


def short(number: float | None) -> str:
    """Return a large number in few characters: `12,345`, `1.2 M`, `3.4e+15`; a dash for none or zero."""
    if not number:
        return "-"
    if abs(number) < 1e5:
        return f"{number:,.0f}"
    for size, letter in ((1e6, "k"), (1e9, "M"), (1e12, "G")):
        if abs(number) < size:
            return f"{number / (size / 1e3):.3g} {letter}"
    return f"{number:.2e}"
