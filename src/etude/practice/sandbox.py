"""Judging an answer in a process of its own, with limits on time and memory, and nothing to break.

The process gets a copy of the text, works in a folder that is thrown away, reads nothing from the terminal, and is
killed with all that it started when its time is up. It is no wall against who means harm: it is their own machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from etude.core.errors import EtudeError
from etude.core.files import write_json
from etude.practice.challenge import Challenge
from etude.practice.verdict import Verdict

START = 60.0
"""Seconds that Python and PyTorch may take to start, on a busy machine, before the check's own time begins."""

MEMORY = 4 << 30
"""Bytes that an answer may hold."""


def judged(challenge: Challenge, source: str, seed: int, *, memory: int = MEMORY) -> Verdict:
    """Check an answer in a process of its own.

    Args:
        challenge: what was asked.
        source: the text of the learner's file.
        seed: of the numbers that it is asked with.
        memory: bytes that it may hold.
    """
    with tempfile.TemporaryDirectory(prefix="etude-practice-") as name:
        folder = Path(name)
        asked, told = folder / "asked.json", folder / "told.json"
        write_json(
            asked,
            {
                "folder": str(challenge.folder.absolute()),
                "track": challenge.track,
                "source": source,
                "seed": seed,
                "seconds": challenge.seconds,
                "memory": memory,
            },
        )
        work = folder / "work"
        work.mkdir()
        command = [sys.executable, "-m", "etude.practice.sandboxed", str(asked), str(told)]
        with (folder / "said").open("w+b") as said:
            child = subprocess.Popen(
                command,
                cwd=work,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"},
            )
            try:
                child.wait(START + challenge.seconds)
            except subprocess.TimeoutExpired:
                return Verdict("time", "Python did not start in time: is the machine very busy? Save again", seed=seed)
            finally:
                _end(child)
            said.seek(0)
            last = said.read()[-2000:].decode(errors="replace").strip()
        return _read(told, challenge.name, child.returncode, last, seed, challenge.seconds)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill a process and all that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _read(told: Path, name: str, code: int, last: str, seed: int, seconds: float) -> Verdict:
    try:
        return Verdict(**json.loads(told.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        pass
    if code == -signal.SIGXCPU:
        return Verdict("time", too_long(seconds), seed=seed)
    if code == -signal.SIGKILL:
        return Verdict("memory", "the system stopped it, for want of memory it seems", seed=seed)
    if code < 0:
        return Verdict("ended", f"it ended Python by the signal {signal.Signals(-code).name}", seed=seed)
    if code == 0 or not last:
        return Verdict("ended", "it ended Python before the check was over: return values, and never exit", seed=seed)
    raise EtudeError(f"the check of {name!r} failed by itself, a defect in its check.py: {last.splitlines()[-1]}")


def too_long(seconds: float) -> str:
    """Return what is said of an answer that takes too long."""
    return (
        f"it took more than {seconds:g} seconds and was stopped: is there a loop that never ends, or one over entries"
        " that a tensor operation could do at once?"
    )
