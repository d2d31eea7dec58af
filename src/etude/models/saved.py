"""A model on disk: `model.safetensors` holds the weights, `model.json` the spec and the vocabulary."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from etude.core.errors import DamagedError, UsageError
from etude.core.files import replacing
from etude.models.architectures.base import Architecture
from etude.models.hollow import hollow, materialised
from etude.models.transformer import Transformer
from etude.nn.look import unwrapped

WEIGHTS, SHAPE = "model.safetensors", "model.json"


def save_model(model: torch.nn.Module, folder: str | Path) -> None:
    """Write a model into a folder, compiled or not: names never have a compiler's prefix. Values keep their dtype.

    Raises:
        OSError: the folder is missing, or the disk is full; what was there before is then unharmed.
    """
    original = unwrapped(model)
    if not isinstance(original, Transformer):
        raise UsageError(f"{type(original).__name__} cannot be saved: build or load it with Etude")
    save_weights(original.state_dict(), original, Path(folder))


def save_weights(state: Mapping[str, Tensor], model: Transformer, folder: Path) -> None:
    """Write weights of a model's shape into a folder, as `save_model` does with its own."""
    weights = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    about = {"spec": model.spec.to_json(), "vocabulary": model.vocabulary}
    with replacing(folder / SHAPE) as shape, replacing(folder / WEIGHTS) as values:  # neither is there before both are
        save_file(weights, values)
        shape.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def load_model(folder: str | Path) -> Transformer:
    """Read a model from a folder, on the CPU and in evaluation mode. No code in the files is run.

    Raises:
        UsageError: there is no model in the folder.
        DamagedError: a file is cut short or changed, or a tensor is missing, misshapen or one too many.
    """
    folder = Path(folder)
    for name in (WEIGHTS, SHAPE):
        if not (folder / name).is_file():
            raise UsageError(f"no {name} in {folder}: give the folder of a model that save_model wrote")
    spec, vocabulary = _read_shape(folder / SHAPE)
    model = hollow(spec, vocabulary)
    try:
        weights = load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise DamagedError(f"{folder / WEIGHTS} cannot be read ({error}): copy it again or train again") from None
    _compare(weights, model.state_dict(), folder / WEIGHTS)
    return materialised(model, weights)


def _read_shape(path: Path) -> tuple[Architecture, int]:
    try:
        about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Architecture.from_json(about["spec"]), int(about["vocabulary"])
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{path} cannot be read ({error!r}): copy it again or train again") from None


def _compare(found: dict[str, Tensor], wanted: dict[str, Tensor], path: Path) -> None:
    """Raise the error that names the first tensor that is not as the spec says."""
    for name in wanted:
        if name not in found:
            raise DamagedError(f"{path} lacks the tensor {name} {list(wanted[name].shape)}: it is not of this spec")
        if found[name].shape != wanted[name].shape:
            raise DamagedError(f"{path}: {name} is {list(found[name].shape)}, its spec says {list(wanted[name].shape)}")
    extra = sorted(found.keys() - wanted.keys())
    if extra:
        raise DamagedError(f"{path} has a tensor {extra[0]} {list(found[extra[0]].shape)}, and its spec has none")
