"""The processes that make one run together, as `torchrun` starts them: who is which, and that all want the same.

All of them see one folder of runs. The first makes every run and writes it; the others wait for its runs, and take part
in those whose recipes are made together (a training).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from etude.core.errors import UsageError
from etude.core.files import write_json

PATIENCE = 60.0
"""Seconds that the others wait for the first to say what it makes."""


@dataclass(frozen=True)
class World:
    """Where this process stands among those that work together.

    Attributes:
        rank: its number, from 0.
        size: how many there are.
        local_rank: its number on its own machine, which is that of its device.
        launch: what this start of all of them is called, another after each restart.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    launch: str = ""

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0


def world() -> World:
    """Return what `torchrun` says in the environment, or a world of one."""
    said = os.environ
    size = int(said.get("WORLD_SIZE") or 1)
    if size < 2:
        return World()
    names = ("TORCHELASTIC_RUN_ID", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT")
    launch = "-".join(said.get(name, "0") for name in names)
    return World(int(said.get("RANK", 0)), size, int(said.get("LOCAL_RANK", 0)), launch)


@contextmanager
def agreed(root: Path, here: World, goals: Sequence[str]) -> Iterator[None]:
    """Make sure, while the block is entered, that every process wants the same runs.

    Args:
        root: the folder of runs.
        here: this process.
        goals: the ids of the runs that it wants.

    Raises:
        UsageError: it wants others than the first does, or the first says nothing.
    """
    path = root / ".together" / f"{here.launch}.json"
    if here.first:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"goals": list(goals)})
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
        return
    wanted = _said(path, here)
    if wanted != list(goals):
        ours = next((g for g in goals if g not in wanted), "nothing")
        theirs = next((g for g in wanted if g not in goals), "nothing")
        raise UsageError(
            f"the ranks disagree on the recipe: rank 0 makes {theirs}, rank {here.rank} {ours};"
            " start every rank with the same command, on machines that choose alike (set --precision and the like)"
        )
    yield


def _said(path: Path, here: World) -> list[str]:
    """Return what the first rank said that it makes."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            return list(json.loads(path.read_text(encoding="utf-8"))["goals"])
        except (OSError, ValueError):
            time.sleep(0.05)
    raise UsageError(
        f"rank {here.rank} heard nothing from rank 0 in {PATIENCE:.0f} s: all ranks need the same folder of runs,"
        f" {path.parents[1]} here; share it, or name it with --runs"
    )
