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
    """Write a checkpoint in one step and drop those older than the last `KEPT`."""
    path = folder / f"checkpoint-{step:09d}.safetensors"
    tensors = {name: tensor.detach().contiguous() for name, tensor in state.tensors.items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={"values": json.dumps(state.values)})
        digest = sha256_of(temporary)
    write_json(path.with_suffix(".json"), {"step": step, "sha256": digest})
    for old in sorted(folder.glob("checkpoint-*.json"))[:-KEPT]:
        old.unlink()
        old.with_suffix(".safetensors").unlink(missing_ok=True)
    return path


def load_state(path: Path) -> State:
    """Read a checkpoint.

    Raises:
        DamagedError: it is missing, cut short or changed.
    """
    note = read_json(path.with_suffix(".json"))
    if not path.exists() or sha256_of(path) != note["sha256"]:
        raise DamagedError(f"{path} is damaged: its hash is not the one that was written; an older one is used")
    with safe_open(path, framework="pt") as file:
        values = json.loads(file.metadata()["values"])
        return State({name: file.get_tensor(name) for name in file.keys()}, values)  # noqa: SIM118 (no dict)


def latest(folder: Path, say: Callable[[str], None]) -> tuple[int, State] | None:
    """Return the step and state of the newest checkpoint that is whole, or None.

    Args:
        folder: where they stand.
        say: takes one line when a damaged one is passed over.
    """
    for note in sorted(folder.glob("checkpoint-*.json"), reverse=True):
        try:
            return int(read_json(note)["step"]), load_state(note.with_suffix(".safetensors"))
        except DamagedError as error:
            say(str(error))
    return None
