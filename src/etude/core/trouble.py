"""What a machine refuses, told as an error that a person can act on: no room on the disk, no room in memory.

PyTorch and safetensors say both in their own words; they are known by these, since this floor imports neither.
"""

from __future__ import annotations

import errno
from pathlib import Path

from etude.core.errors import EtudeError

_DISK = ("No space left", "Disk quota exceeded")
_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "Cannot allocate memory")


def explained(error: Exception, name: str, folder: Path) -> EtudeError | None:
    """Return what to say of an error that a machine's limits caused, or None where it is of another kind.

    Args:
        error: what the work raised.
        name: the id of the run that was being made.
        folder: where it was being written.
    """
    if isinstance(error, EtudeError):
        return None
    number, words = getattr(error, "errno", None), str(error)
    if number in (errno.ENOSPC, errno.EDQUOT) or any(said in words for said in _DISK):
        return EtudeError(
            f"the disk is full: {name} could not be written to {folder}; make room and run the same command again,"
            " which goes on from what is kept there, or choose another folder with --runs"
        )
    if isinstance(error, MemoryError) or number == errno.ENOMEM or _says_no_memory(error, words):
        return EtudeError(
            f"{name} needs more memory than there is; take a smaller batch, or the same batch in parts with"
            " --accumulate, and -j 1 where several runs are made at once"
        )
    return None


def _says_no_memory(error: Exception, words: str) -> bool:
    return isinstance(error, RuntimeError) and any(said in words for said in _MEMORY)
