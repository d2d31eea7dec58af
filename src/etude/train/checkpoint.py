"""Checkpoints that are whole or absent, and known to be what was written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from etude.core.errors import DamagedError
from etude.core.files import read_json, replacing, sha256_of, write_json

KEPT = 2
"""Checkpoints that stand at once: the newest, and one to fall back on if that is damaged."""

_NAME = "checkpoint-"


@dataclass
class State:
    """All that a stepper needs to go on exactly: tensors, and JSON values."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(optimiser: torch.optim.Optimizer, **parts: torch.nn.Module) -> State:
        """Return the state of modules, each under its name, and of their optimiser."""
        tensors = {f"{part}.{name}": v for part, module in parts.items() for name, v in module.state_dict().items()}
        for i, entry in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{i}.{name}": torch.as_tensor(value) for name, value in entry.items()}
        return State(tensors)

    def under(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names begin so, without the beginning."""
        return {name.removeprefix(prefix): value for name, value in self.tensors.items() if name.startswith(prefix)}

    def load_into(self, optimiser: torch.optim.Optimizer, **parts: torch.nn.Module) -> None:
        """Put back what `of` took."""
        for part, module in parts.items():
            module.load_state_dict(self.under(f"{part}."))
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in self.under("optimiser.").items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = value
        optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


def save_state(folder: Path, step: int, state: State) -> Path:
    """Write a checkpoint in one step and drop those older than the last `KEPT`. One process writes into a folder."""
    path = folder / f"{_NAME}{step:09d}.safetensors"
    tensors = {name: tensor.detach().contiguous() for name, tensor in state.tensors.items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={"values": json.dumps(state.values)})
        digest = sha256_of(temporary)
    write_json(path.with_suffix(".json"), {"sha256": digest})
    for torn in folder.glob(f".{_NAME}*.tmp"):  # a process that was killed was writing it
        torn.unlink()
    for old in saved_steps(folder)[:-KEPT]:
        for ending in (".json", ".safetensors"):
            (folder / f"{_NAME}{old:09d}{ending}").unlink(missing_ok=True)
    return path


def saved_steps(folder: Path) -> list[int]:
    """Return the steps of the checkpoints in a folder, from the first to the last, whole or not."""
    return sorted(int(note.stem.removeprefix(_NAME)) for note in folder.glob(f"{_NAME}*.json"))


def load_state(path: Path) -> State:
    """Read a checkpoint.

    Raises:
        DamagedError: it is missing, cut short or changed.
    """
    note = read_json(path.with_suffix(".json"))
    wanted = note.get("sha256") if isinstance(note, dict) else None
    if not path.exists() or sha256_of(path) != wanted:
        raise DamagedError(f"{path} is damaged: its hash is not the one that was written; remove it and go on")
    with safe_open(path, framework="pt") as file:
        values = json.loads(file.metadata()["values"])
        return State({name: file.get_tensor(name) for name in file.keys()}, values)  # noqa: SIM118 (no dict)


def latest(folder: Path, say: Callable[[str], None]) -> tuple[int, State] | None:
    """Return the step and state of the newest checkpoint that is whole, or None.

    Args:
        folder: where they stand.
        say: takes one line when a damaged one is passed over.
    """
    for step in reversed(saved_steps(folder)):
        try:
            return step, load_state(folder / f"{_NAME}{step:09d}.safetensors")
        except DamagedError:
            say(f"the checkpoint of step {step} was damaged and passed over")
    return None
