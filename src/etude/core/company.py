"""One start of several processes over one folder of runs: that all want the same, what is made now, and who is alive.

The first process makes every run and writes it. The others wait for its runs, and take part in those that are made
together (a training). They speak through small files in `.together` in the folder of runs, which is there before any
process group is and without PyTorch. Each holds a lock there while it works, which the operating system frees when it
dies, however it dies.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from etude.core.errors import EtudeError, UsageError
from etude.core.files import write_json
from etude.core.progress import tell
from etude.core.run import MANIFEST
from etude.core.signals import told_to_end
from etude.core.world import World

PATIENCE = 60.0
"""Seconds that processes wait for each other at the start."""

GRACE = 15.0
"""Seconds that a process has to leave by itself after another died. One that waits inside a library for the dead one
does not notice, and `torchrun` kills after 30."""

PERIOD = 0.1


class Company:
    """The processes of one start, as one of them sees the others.

    Args:
        root: the folder of runs, the same for all.
        here: this process.
        goals: the ids of the runs that it wants.
    """

    def __init__(self, root: Path, here: World, goals: Sequence[str]) -> None:
        self.root, self.here, self.goals = root, here, list(goals)
        self.folder = root / ".together" / here.launch
        self._word = secrets.token_hex(8)  # tells this process from one that stood in its place and was killed
        self._answer: dict[str, Any] = {}
        self._watched: list[int] = []
        self._left = threading.Event()

    def begin(self, run_id: str) -> None:
        """Say, as the first process, that a run is now made by all of them."""
        self._say({**self._answer, "making": run_id})

    def wait_for(self, run_id: str, *, to_begin: bool) -> bool:
        """Wait until the first process has made a run.

        Args:
            run_id: which.
            to_begin: return also when it begins to make it together with this process.

        Returns:
            Whether the run is done.

        Raises:
            EtudeError: the first process is gone and did not make the run, or makes another one with us.
        """
        gone = astray = 0.0
        while True:
            answer, now = _read(self.folder / "0.json"), time.monotonic()
            making = answer.get("making", "")
            if self._is_done(run_id):  # asked after what is made now: whoever makes the next one has made this
                return True
            if to_begin and making == run_id:
                return False
            left = answer.get("word") != self._answer["word"] or self._is_gone(0)
            gone = (gone or now) if left else 0.0
            if left and now - gone > 1:  # a folder on a network may be late in showing what is in it
                raise EtudeError(self._lost(0, f"ended before {run_id} was made"))
            elsewhere = bool(making) and making != run_id and not self._is_done(making)
            astray = (astray or now) if elsewhere else 0.0
            if elsewhere and now - astray > PATIENCE / 2:
                raise EtudeError(
                    f"rank {self.here.rank} waits for {run_id} and rank 0 makes {making}: another process made runs in"
                    " this folder at the same moment; run the same command again to go on"
                )
            time.sleep(PERIOD)

    def come(self) -> FileLock:
        """Hold the lock that tells the others that this process is alive.

        Raises:
            EtudeError: this process of an earlier start still holds it.
        """
        lock = FileLock(self.folder / f"{self.here.rank}.lock")
        while True:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                lock.acquire(timeout=PATIENCE)
                return lock
            except FileNotFoundError:  # whoever left an earlier start last has just cleared the folder
                time.sleep(PERIOD)
            except Timeout:
                raise EtudeError(
                    f"rank {self.here.rank} of an earlier start still runs over {self.root}: stop it first"
                ) from None

    def agree(self) -> None:
        """Meet the other processes, and make sure that all want the same runs.

        Raises:
            UsageError: they do not, or one says nothing.
        """
        (self._listen if self.here.first else self._speak)()
        others = range(1, self.here.size) if self.here.first else [0]
        # A file system that keeps locks to one machine shows none of another's: then the sockets alone tell of its end.
        self._watched = [rank for rank in others if self._holds(rank)]

    def watch(self) -> None:
        """End this process where another one died and it does not notice: it may wait for it inside a library."""
        while not self._left.wait(1.0):
            gone = next((rank for rank in self._watched if self._is_gone(rank)), None)
            if gone is not None and not self._left.wait(GRACE):
                tell(f"etude: {self._lost(gone, 'died or left')}")
                os._exit(1)

    def leave(self) -> None:
        """Clear away what this process left in the folder."""
        self._left.set()
        (self.folder / f"{self.here.rank}.json").unlink(missing_ok=True)

    def _listen(self) -> None:
        """Hear every other process, and answer all of them."""
        said: dict[int, dict[str, Any]] = {}
        for old in self.folder.glob("*.json"):  # of a start that was killed; whoever is alive writes its own again
            old.unlink(missing_ok=True)
        until = time.monotonic() + PATIENCE
        while missing := [rank for rank in range(1, self.here.size) if rank not in said]:
            self._be_patient(until, f"rank {missing[0]}")
            said |= {rank: told for rank in missing if (told := _read(self.folder / f"{rank}.json"))}
        wrong = next((rank for rank in sorted(said) if said[rank]["goals"] != self.goals), None)
        verdict = "" if wrong is None else self._disagree(wrong, said[wrong]["goals"])
        self._say({"word": self._word, "heard": {str(r): told["word"] for r, told in said.items()}, "wrong": verdict})
        while any((self.folder / f"{rank}.json").exists() for rank in said):  # each takes its own away when it has read
            self._be_patient(until, "a rank that it heard before")
        if verdict:
            raise UsageError(verdict)

    def _speak(self) -> None:
        """Say what this process wants until the first has heard it."""
        path, until = self.folder / f"{self.here.rank}.json", time.monotonic() + PATIENCE
        while _read(self.folder / "0.json").get("heard", {}).get(str(self.here.rank)) != self._word:
            if not path.exists():
                with suppress(FileNotFoundError):  # whoever left last may have cleared the folder
                    self.folder.mkdir(parents=True, exist_ok=True)
                    write_json(path, {"word": self._word, "goals": self.goals})
            self._be_patient(until, "rank 0")
        self._answer = _read(self.folder / "0.json")
        path.unlink(missing_ok=True)
        if self._answer["wrong"]:
            raise UsageError(self._answer["wrong"])

    def _say(self, answer: dict[str, Any]) -> None:
        self._answer = answer
        write_json(self.folder / "0.json", answer)

    def _be_patient(self, until: float, whom: str) -> None:
        if time.monotonic() > until:
            raise UsageError(
                f"rank {self.here.rank} heard nothing from {whom} in {PATIENCE:.0f} s: all ranks need the same folder"
                f" of runs, {self.root.absolute()} here; share it, or name it with --runs"
            )
        time.sleep(PERIOD / 2)

    def _disagree(self, rank: int, theirs: list[str]) -> str:
        ours = next((goal for goal in self.goals if goal not in theirs), "nothing")
        other = next((goal for goal in theirs if goal not in self.goals), "nothing")
        return (
            f"the ranks disagree on the recipe: rank 0 makes {ours}, rank {rank} {other};"
            " start every rank with the same command, on machines that choose alike (set --precision and the like)"
        )

    def _lost(self, rank: int, what: str) -> str:
        return (
            f"rank {self.here.rank} lost rank {rank} of {self.here.size}, which {what}; run the same command again to"
            " go on from what was saved"
        )

    def _is_done(self, run_id: str) -> bool:
        return (self.root / run_id / MANIFEST).exists()

    def _is_gone(self, rank: int) -> bool:
        return rank in self._watched and not self._holds(rank)

    def _holds(self, rank: int) -> bool:
        """Return whether a process is seen to hold its lock."""
        path = self.folder / f"{rank}.lock"
        if not path.exists():
            return False
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        except FileNotFoundError:  # whoever left last cleared the folder since the line above
            return False
        lock.release()
        return False


@contextmanager
def company(root: Path, here: World, goals: Sequence[str]) -> Iterator[Company]:
    """Keep company with the other processes of this start while the block runs.

    Args:
        root: the folder of runs.
        here: this process.
        goals: the ids of the runs that it wants.

    Raises:
        UsageError: another process wants other runs, or says nothing.
        Interrupted: this process was told to end.
    """
    us = Company(root, here, goals)
    with told_to_end(f"rank {here.rank} of {here.size}"):
        lock = us.come()
        try:
            us.agree()
            threading.Thread(target=us.watch, name="company", daemon=True).start()
            yield us
        finally:
            us.leave()
            lock.release()
            _clear(us)


def _clear(us: Company) -> None:
    """Remove the folder, when nobody is left in it."""
    if not any(us._holds(rank) for rank in range(us.here.size)):
        shutil.rmtree(us.folder, ignore_errors=True)
        with suppress(OSError):  # another start's folder is in it
            us.folder.parent.rmdir()


def _read(path: Path) -> dict[str, Any]:
    """Return what a process said, or nothing."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}
