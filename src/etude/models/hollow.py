"""A model without room for its weights, to be given tensors that exist already: so nothing is held twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from etude.models.architectures.base import Architecture
from etude.models.transformer import Transformer


def hollow(spec: Architecture, vocabulary: int) -> Transformer:
    """Return the live model with every parameter on the meta device. Buffers, which the spec decides, are there.

    `load_state_dict(..., assign=True)` puts tensors in the parameters' places.
    """
    with _parameters_on_meta():
        return spec.module(vocabulary)


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    def to_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        return None if parameter is None else nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)

    handle = register_module_parameter_registration_hook(to_meta)
    try:
        yield
    finally:
        handle.remove()


def materialised(model: Transformer, weights: dict[str, torch.Tensor]) -> Transformer:
    """Return a hollow model with its weights put in their places, in evaluation mode. Every one has to be there."""
    model.load_state_dict(weights, assign=True)
    return model.eval()
