"""A model whose weights are divided among the processes that train it (FSDP2), and its state as if they were not.

Gathering and dividing are done by `torch.distributed.checkpoint.state_dict`. Checkpoints are then the same files as
those of one process, so a training goes on with any number of processes, and no pickle is written or read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from etude.models.transformer import Transformer
from etude.nn.block import Block
from etude.train.checkpoint import State

ENTRANCES = ("hidden", "stream", "encode")
"""Methods of models, beside `forward`, that losses call by themselves: the weights have to be gathered for them too."""

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def shard(model: Transformer, device: torch.device, size: int) -> Transformer:
    """Divide a model's weights among the processes, block by block: each is gathered when its turn comes."""
    mesh = init_device_mesh(device.type, (size,))
    for block in [module for module in model.modules() if isinstance(module, Block)]:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    _gather_at_entrances(model)
    return model


def _gather_at_entrances(model: Transformer) -> None:
    """Gather the weights outside the blocks wherever a model is entered, once: one entrance calls another, and FSDP
    would take the end of the inner for the end of all."""
    inside = False

    def enter(*args: Any) -> None:
        nonlocal inside
        inside = True

    def leave(*args: Any) -> None:
        nonlocal inside
        inside = False

    def entrance(plain: Callable[..., Any], gathering: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if inside:
                return plain(*args, **kwargs)
            enter()
            try:
                return gathering(*args, **kwargs)
            finally:
                leave()

        return call

    for name in ENTRANCES:
        if hasattr(model, name):
            plain = getattr(model, name)
            register_fsdp_forward_method(model, name)
            setattr(model, name, entrance(plain, getattr(model, name)))
    model.register_forward_pre_hook(enter)
    model.register_forward_hook(leave, always_call=True)


def let_go(model: Transformer) -> None:
    """Go back to the divided weights where an evaluation has left some gathered: those are copies, and what is done to
    them, or to the divided ones, the other would not have. After a backward pass FSDP does it by itself."""
    cast(FSDPModule, model).reshard()


def whole_weights(model: Transformer) -> dict[str, Tensor]:
    """Return, in the first process, a divided model's weights; every process has to ask."""
    let_go(model)
    return cast(dict[str, Tensor], get_model_state_dict(model, options=_WHOLE))


def put_weights(weights: dict[str, Tensor], model: Transformer) -> None:
    """Put undivided weights into a divided model, each process its part."""
    let_go(model)
    set_model_state_dict(model, dict(weights), options=StateDictOptions(full_state_dict=True))


def whole_state(optimiser: torch.optim.Optimizer, **parts: Transformer) -> State:
    """Return, in the first process, what `State.of` would of undivided models; every process has to ask.

    Args:
        optimiser: of the part named `model`.
        parts: models, each under its name.
    """
    tensors: dict[str, Tensor] = {}
    for part, model in parts.items():
        tensors |= {f"{part}.{name}": value for name, value in whole_weights(model).items()}
    state = cast(dict[str, Any], get_optimizer_state_dict(parts["model"], optimiser, options=_WHOLE).get("state", {}))
    for i, name in enumerate(_order(optimiser, parts["model"])):
        entry: dict[str, Any] = state.get(name, {})
        tensors |= {f"optimiser.{i}.{key}": torch.as_tensor(value) for key, value in entry.items()}
    return State(tensors)


def load_whole(state: State, optimiser: torch.optim.Optimizer, **parts: Transformer) -> None:
    """Put back what `whole_state` or `State.of` took, each process its part of it."""
    for part, model in parts.items():
        put_weights(state.under(f"{part}."), model)
    names = _order(optimiser, parts["model"])
    entries: dict[str, dict[str, Tensor]] = {}
    for name, value in state.under("optimiser.").items():
        index, _, key = name.partition(".")
        entries.setdefault(names[int(index)], {})[key] = value
    groups = [
        {
            **{k: v for k, v in group.items() if k != "params"},
            "params": [_name(p, parts["model"]) for p in group["params"]],
        }
        for group in optimiser.param_groups
    ]
    whole: dict[str, Any] = {"state": entries, "param_groups": groups}
    set_optimizer_state_dict(parts["model"], optimiser, whole, options=StateDictOptions(full_state_dict=True))


def _order(optimiser: torch.optim.Optimizer, model: Transformer) -> list[str]:
    """Return the names of an optimiser's parameters in the order in which its state counts them."""
    return [_name(p, model) for group in optimiser.param_groups for p in group["params"]]


def _name(parameter: Tensor, model: Transformer) -> str:
    return next(name for name, p in model.named_parameters() if p is parameter)
