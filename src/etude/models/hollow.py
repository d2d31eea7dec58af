"""A model without room for its weights, to be given tensors that exist already: so nothing is held twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from etude.models.architectures.base import Architecture
from etude.models.transformer import Transformer


def hollow(spec: Architecture, vocabulary: int) -> Transformer:
    """Return the live model with every parameter on the meta device. Buffers, which the spec decides, are there.

    `load_state_dict(..., assign=True)` puts tensors in the parameters' places.
    """
    with _NoRoom():
        model = spec.module(vocabulary)
    if any(buffer.is_meta for buffer in model.buffers()):  # one that is made as weights are
        return spec.module(vocabulary)
    return model


def materialised(model: Transformer, weights: dict[str, torch.Tensor]) -> Transformer:
    """Return a hollow model with its weights put in their places, in evaluation mode. Every one has to be there."""
    model.load_state_dict(weights, assign=True)
    return model.eval()


class _NoRoom(TorchFunctionMode):
    """Where this is entered, zeros and ones, which weights are before they are set, have a shape and no numbers. The
    meta device for everything would take the buffers along, and making weights to drop them again leaves the
    allocator with pages that it does not give back."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = dict(kwargs or {})
        if function in (torch.zeros, torch.ones):
            given["device"] = "meta"
        return function(*args, **given)
