"""Replies in pairs, a civil and an insulting one of like length to the same turn: a task of our own writing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from etude.core.run import read_rows

FILE = Path(__file__).with_name("paired_replies.jsonl")
"""In the form of the task `multiple-choice`: the civil reply is the right one. No slurs."""


def choices() -> list[list[str]]:
    """Return both replies to each turn, in the order of the file."""
    return [row["choices"] for row in _rows()]


def replies() -> tuple[list[str], list[str]]:
    """Return the civil replies and the insulting ones, in the order of the file."""
    rows = _rows()
    return [row["choices"][row["gold"]] for row in rows], [row["choices"][1 - row["gold"]] for row in rows]


def _rows() -> list[dict[str, Any]]:
    return list(read_rows(FILE))
