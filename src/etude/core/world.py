"""The processes that make one run together, as `torchrun` starts them: who is which."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

from etude.core.errors import UsageError


@dataclass(frozen=True)
class World:
    """Where this process stands among those that work together.

    Attributes:
        rank: its number, from 0.
        size: how many there are.
        local_rank: its number on its own machine, which is that of its device.
        local_size: how many there are on its own machine, which share the cores.
        launch: what this start of all of them is called. Where `torchrun` starts them it is another one each time.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    launch: str = ""

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0


def world() -> World:
    """Return what `torchrun` says in the environment, or a world of one.

    Raises:
        UsageError: the environment names several processes and not which one this is.
    """
    size = _number("WORLD_SIZE", 1)
    if size < 2:
        return World()
    rank, local_rank = _number("RANK"), _number("LOCAL_RANK", 0)
    local_size = _number("LOCAL_WORLD_SIZE", 1)
    if not 0 <= rank < size:
        raise UsageError(f"RANK {rank} is none of WORLD_SIZE {size} processes: they are 0 to {size - 1}")
    names = ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT")
    said = "-".join(os.environ.get(name, "") for name in names)
    return World(rank, size, local_rank, local_size, hashlib.sha256(said.encode()).hexdigest()[:12])


def _number(name: str, default: int | None = None) -> int:
    said = os.environ.get(name) or default
    try:
        return int(said)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        found = "is not set" if said is None else f"is {said!r}, no number,"
        raise UsageError(
            f"WORLD_SIZE names several processes and {name} {found}: start them with torchrun, or unset WORLD_SIZE"
        ) from None
