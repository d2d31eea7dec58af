"""The learner's file as a check sees it: its functions, watched while they are called."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from etude.practice.differences import kind
from etude.practice.exam import Wrong


class Blank(Exception):
    """A function still raises NotImplementedError."""


class Theirs:
    """The names of a learner's file. It is wrong of a function to change a tensor that it is given, or to return None.

    Attributes:
        calls: the last call, as it would be written, for messages.
    """

    def __init__(self, module: types.ModuleType, file: str) -> None:
        self._module, self._file = module, file
        self.calls = ""

    def __getattr__(self, name: str) -> Any:
        try:
            value = getattr(self._module, name)
        except AttributeError:
            raise Wrong(
                f"{self._file} has no {name!r} any more: put it back as it was, or begin anew with"
                f" `etude practice reset {self._module.__name__}`"
            ) from None
        if not callable(value):
            raise Wrong(f"`{name}` is {kind(value)}: it has to be the function of that name")
        return self._watched(name, value) if isinstance(value, types.FunctionType) else value

    def _watched(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def called(*args: Any, **named: Any) -> Any:
            self.calls = _written(name, args, named)
            given = [value for value in (*args, *named.values()) if isinstance(value, Tensor)]
            before = [(value._version, value.detach().clone(), value) for value in given]
            try:
                result = function(*args, **named)
            except NotImplementedError as error:
                raise (error if error.args else Blank(name)) from None  # PyTorch's own has words
            for version, was, value in before:
                if value._version != version or not torch.equal(value.nan_to_num(), was.nan_to_num()):
                    raise Wrong(f"`{name}` changes its input in place (shape {list(value.shape)}): work on a copy")
            if result is None:
                raise Wrong(f"`{name}` returns None: is a `return` missing?")
            return result

        return called


def _written(name: str, args: tuple[Any, ...], named: dict[str, Any]) -> str:
    parts = [_told(value) for value in args] + [f"{key}={_told(value)}" for key, value in named.items()]
    return f"{name}({', '.join(parts)})"


def _told(value: Any) -> str:
    if isinstance(value, Tensor):
        kind = str(value.dtype).removeprefix("torch.")
        return f"{kind}[{', '.join(map(str, value.shape))}]"
    told = f"<{type(value).__name__}>" if isinstance(value, torch.nn.Module) or callable(value) else repr(value)
    return told if len(told) <= 40 else told[:37] + "..."
