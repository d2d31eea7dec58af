"""Writing files so that a reader sees all of one or nothing of it, and knowing that one is what was written."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from etude.core.errors import DamagedError, EtudeError


def sha256_of(path: Path) -> str:
    """Return the hash of a file's content, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to, and put what was written at `path` in one step when the block ends without an error."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> Path:
    """Write a text file in one step, with the same bytes on every system. Its folder is made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return path


def write_json(path: Path, data: Any) -> None:
    """Write JSON in one step. Not-a-number is refused, so that any JSON reader can read a run."""
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        DamagedError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DamagedError(f"{path} is missing; remove the folder and run the recipe again") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise DamagedError(f"{path} is not readable JSON ({error}); remove the folder and run again") from None


def require_room(folder: Path, needed: int, what: str) -> None:
    """Refuse work that will not fit on the disk.

    Args:
        folder: where the work will be written; it need not exist yet.
        needed: bytes that the work is known to write.
        what: the name of the work, for the message.

    Raises:
        EtudeError: the disk has less room than that.
    """
    standing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(standing).free
    if needed > free:
        raise EtudeError(
            f"{what} needs {bytes_of(needed)} in {folder} and the disk has {bytes_of(free)} free;"
            " make room, or choose another folder with --runs"
        )


def bytes_of(size: float) -> str:
    """Return a size on disk as a person says it: `312 B`, `4.2 kB`, `1.3 GB`."""
    for unit in ("B", "kB", "MB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 9.95 else f"{size:.1f} {unit}"
        size /= 1e3
    return f"{size:.1f} GB"
