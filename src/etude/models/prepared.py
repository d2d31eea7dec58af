"""A model made ready to write: weights laid out once as the processor reads them best, for many tokens to come.

A token reads every weight for a few rows of numbers, so that the layout decides its speed; a training step, with its
thousands of rows, does not notice. The twin that is made here shares everything with the model but the weights of its
products: its taps are the model's own, so what is put at an activation acts in both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from etude.core.errors import UsageError
from etude.models.transformer import Transformer
from etude.nn.multi_head import MultiHead, joined
from etude.nn.precision import autocast
from etude.nn.taps import Tap

PRECISIONS = ("fp32", "bf16")

LARGE = 1 << 18
"""Numbers from which on a weight is laid out anew: smaller ones stay in the processor's cache, where Python's part of a
product takes longer than the product."""

ROWS = 16
"""Rows that the layout is chosen for. It serves 1 to 1,024 as well as one chosen for them (within 5%)."""

PRODUCTS = ("W_Q", "W_K", "W_V", "W_O", "W_in", "W_gate", "W_out", "W_U")


def prepared(model: Transformer, precision: str = "fp32", rows: int = 1) -> Callable[..., Tensor]:
    """Return what scores tokens as the model does, called as it is, for as long as its weights stay as they are.

    In bf16, products of weights have their factors rounded and the rest stays fp32, as under autocast, where weights
    would be rounded anew for each token. It takes as much memory as the weights again, in bf16 half of it. The model
    itself is returned on a GPU, and where functions are put at weights, which act on the model alone.

    Args:
        model: on any device; only on a CPU is anything laid out.
        precision: `fp32` or `bf16`.
        rows: texts that are written at once. In fp32 the plain layout is as fast for one, and stays.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"precision {precision!r} is not one that texts are written in: {', '.join(PRECISIONS)}")
    device = next(model.parameters()).device
    plain = device.type != "cpu" or not torch.backends.mkldnn.is_available() or bool(model._forward_pre_hooks)
    if precision == "bf16":
        return _under_autocast(model, device) if plain else _twin(model, torch.bfloat16)
    same = {weight.dtype for weight in model.parameters()} == {torch.float32}
    return model if plain or not same else _twin(model, None if rows == 1 else torch.float32)


def _under_autocast(model: Transformer, device: torch.device) -> Callable[..., Tensor]:
    def score(*args: Any, **given: Any) -> Tensor:
        with autocast(device, "bf16"):
            return model(*args, **given)

    return score


def _twin(module: Any, dtype: torch.dtype | None, tied: bool = False) -> Any:
    """Return a module that shares all with another but its children, which are twins too, and its products' weights:
    these are packed in a precision, or (None) left in place. Queries, keys and values come of one product."""
    twin = object.__new__(type(module))
    twin.__dict__ = {**module.__dict__, "training": False}
    tied = tied or (isinstance(module, Transformer) and module.spec.tied)
    names = {*PRODUCTS, "W_E"} if tied else {*PRODUCTS}
    if isinstance(module, MultiHead) and not module.cross and (dtype is not None or module.W_Q.numel() < LARGE):
        W, b = joined((module.W_Q, module.W_K, module.W_V), (module.b_Q, module.b_K, module.b_V))
        twin.together = (Packed.of(W, "together", dtype) if _worth(W, dtype) else W.detach()), b
        names -= {"W_Q", "W_K", "W_V"}
    twin._parameters = {
        name: Packed.of(weight, name, dtype)
        if name in names and weight is not None and _worth(weight, dtype)
        else weight
        for name, weight in module._parameters.items()
    }
    twin._modules = {
        name: child if child is None or isinstance(child, Tap) else _twin(child, dtype, tied)
        for name, child in module._modules.items()
    }
    return twin


def _worth(weight: Tensor, dtype: torch.dtype | None) -> bool:
    return dtype == torch.bfloat16 or (dtype is not None and weight.numel() >= LARGE)


class Packed(Tensor):
    """A weight that stands where the model's own stands, and whose products are those of its packed copy.

    Attributes:
        packed: oneDNN's layout of the matrix, out of which only products can be had.
        bias: what was added to the last product, and the same in the precision of the copy.
        views: what the parts make of the weight before a product (`flatten`, `mT`), by the function that makes it.
    """

    packed: Tensor
    bias: tuple[Tensor, Tensor] | None
    views: dict[Any, Packed]

    @classmethod
    def of(cls, weight: Tensor, name: str, dtype: torch.dtype | None) -> Packed:
        """Return a model's weight with its copy."""
        weight = weight.detach()
        read = 2 if name == "W_O" else 1  # axes that a product sums over
        matrix = weight.reshape(math.prod(weight.shape[:read]), -1)
        # The embedding [V D] is read as its transpose: see `unembedding` of the models.
        turned = matrix if name == "W_E" else matrix.mT
        packed = torch.ops.mkldnn._reorder_linear_weight(turned.to(dtype), ROWS)
        last = cls._with(turned, packed, {})
        if name == "W_E":
            # F.linear gets W_E.mT.mT
            return cls._with(weight, packed, {_TURN: cls._with(weight.mT, packed, {_TURN: last})})
        two = cls._with(matrix, packed, {_TURN: last})
        return two if weight.ndim == 2 else cls._with(weight, packed, {_FLATTEN: two})

    @classmethod
    def _with(cls, plain: Tensor, packed: Tensor, views: dict[Any, Packed]) -> Packed:
        made = Tensor._make_subclass(cls, plain)
        made.packed, made.bias, made.views = packed, None, views
        return made

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.linear and isinstance(args[1], cls):
            return _product(*args, **(kwargs or {}))
        if isinstance(args[0], cls) and func in args[0].__dict__["views"]:
            return args[0].__dict__["views"][func]
        with torch._C.DisableTorchFunctionSubclass():
            if func is torch.einsum:  # which a watcher of single heads asks for
                args = [a.to(a.packed.dtype) if isinstance(a, cls) else a for a in args]
            return func(*args, **(kwargs or {}))


_FLATTEN, _TURN = Tensor.flatten, Tensor.mT.__get__  # type: ignore[attr-defined]


def _product(x: Tensor, W: Packed, b: Tensor | None = None) -> Tensor:
    held: Any = W.__dict__
    packed = held["packed"]
    with torch._C.DisableTorchFunctionSubclass():
        if packed.dtype == torch.float32 and x.numel() == x.shape[-1]:
            return F.linear(x, W, b)  # one row alone is faster so
        if b is not None and b.dtype != packed.dtype:
            if held["bias"] is None or held["bias"][0] is not b:
                held["bias"] = b, b.to(packed.dtype)
            b = held["bias"][1]
        return torch.ops.mkldnn._linear_pointwise(x.to(packed.dtype), packed, b, "none", [], "")
