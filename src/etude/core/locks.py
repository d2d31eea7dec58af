"""One process makes a run; another that wants it waits, or is told who has it."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from etude.core.errors import BusyError
from etude.core.files import write_json


@contextmanager
def held(root: Path, name: str, *, wait: bool = True, say: Callable[[str], None] = lambda text: None) -> Iterator[None]:
    """Hold the lock of a run while the block runs.

    The operating system frees the lock when its holder dies, however it dies, so a stale lock is recovered by itself.
    Beside it stands who has it, for the message.

    Raises:
        BusyError: another process has it and `wait` is false.
    """
    folder = root / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock, holder = FileLock(folder / f"{name}.lock"), folder / f"{name}.json"
    said = False
    while True:
        try:
            lock.acquire(timeout=0)
            break
        except Timeout:
            if not wait:
                raise BusyError(f"{name} is being made by {who(holder)}; wait for it, or stop it first") from None
            if not said:
                say(f"{name} is being made by {who(holder)}; waiting for it")
                said = True
            time.sleep(0.2)
    try:
        write_json(holder, {"host": socket.gethostname(), "process": os.getpid()})
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def who(holder: Path) -> str:
    """Return the host and process that a lock's holder file names."""
    try:
        named = json.loads(holder.read_text(encoding="utf-8"))
        return f"process {named['process']} on {named['host']}"
    except (OSError, ValueError, KeyError):
        return "another process"
