"""The process in which an answer is judged: `python -m etude.practice.sandboxed ASKED TOLD`.

The time of the check begins when PyTorch has been imported. Linux and macOS alike keep time by an alarm and memory by a
thread that looks; Linux refuses too large an allocation besides.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from etude.core.files import write_json
from etude.practice.challenge import Challenge
from etude.practice.judging import judge
from etude.practice.sandbox import too_long
from etude.practice.verdict import Verdict


def main() -> None:
    """Judge what was asked, and write what is told of it."""
    asked: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    told, seed = Path(sys.argv[2]), int(asked["seed"])

    def tell(verdict: Verdict) -> None:
        write_json(told, verdict.to_json())

    def stop(outcome: str, message: str) -> None:
        tell(Verdict(outcome, message, seed=seed))
        os._exit(0)

    challenge = Challenge.load(Path(asked["folder"]), asked["track"])
    threading.Thread(target=_watch, args=(float(asked["seconds"]), int(asked["memory"]), stop), daemon=True).start()
    _limit(int(asked["memory"]), float(asked["seconds"]))
    tell(judge(challenge, asked["source"], seed))
    os._exit(0)  # whatever threads an answer has left behind


def _watch(seconds: float, memory: int, stop: Any) -> None:
    """Stop the process when its time is up or its memory is full. A thread, so that a loop in Python cannot hold it."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if _held() > memory:
            stop("memory", f"it holds more than {memory >> 30} GiB of memory and was stopped")
        time.sleep(0.02)
    stop("time", too_long(seconds))


def _held() -> int:
    """Return the most bytes that this process has held."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _limit(memory: int, seconds: float) -> None:
    """Have the system refuse what the thread may see too late: one large allocation, or a loop inside a C function."""
    with contextlib.suppress(ValueError, OSError):
        if sys.platform == "linux":
            resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
        used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        most = int(used + 2 * seconds) + 2
        resource.setrlimit(resource.RLIMIT_CPU, (most, most + 1))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the watcher, which ends this process itself


if __name__ == "__main__":
    main()
