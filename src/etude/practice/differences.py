"""How two values differ, in words that a person can act on. It is given tensors, numbers, words and lists of them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

ROWS = 3
"""Wrong places that are named."""


def close(one: Any, other: Any, tolerance: float) -> bool:
    """Return whether two values are the same: tensors in shape and within a tolerance, lists entry by entry."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if one.shape != other.shape:
            return False
        return torch.allclose(
            one.detach().double(), other.detach().double(), rtol=tolerance, atol=tolerance, equal_nan=True
        )
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        number, tensor = (other, one) if isinstance(one, Tensor) else (one, other)
        return is_number(number) and tensor.ndim == 0 and close(float(number), float(tensor.detach()), tolerance)
    if is_number(one) and is_number(other):
        return math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance) or (math.isnan(one) and math.isnan(other))
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(close(a, b, tolerance) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key], tolerance) for key in one)
    return bool(one == other)


def is_number(value: Any) -> bool:
    """Return whether a value is a plain number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def difference(got: Any, want: Any, what: str, axes: tuple[str, ...] = (), tolerance: float = 1e-4) -> str:
    """Say how a value differs from what it has to be, or return nothing where it does not.

    Args:
        got: the learner's value.
        want: the right one.
        what: its name in the sentence, as in `your pattern`.
        axes: the names of a tensor's axes, as in ("query", "key").
        tolerance: absolute and relative.
    """
    if said := misformed(got, want, what, axes):
        return said
    if close(got, want, tolerance):
        return ""
    if isinstance(want, Tensor) and isinstance(got, Tensor):
        return _tensors(got, want, what, axes, tolerance)
    if isinstance(want, list | tuple):
        if len(got) != len(want):
            return f"{what} has {len(got)} entries and should have {len(want)}: {_short(got)}, not {_short(want)}"
        at = next(n for n in range(len(want)) if not close(got[n], want[n], tolerance))
        return difference(got[at], want[at], f"entry {at} of {what}", axes, tolerance)
    if isinstance(want, dict):
        if got.keys() != want.keys():
            return (
                f"{what} has the keys {_short(sorted(map(str, got)))}; it should have {_short(sorted(map(str, want)))}"
            )
        at = next(key for key in want if not close(got[key], want[key], tolerance))
        return difference(got[at], want[at], f"{what} at {at!r}", axes, tolerance)
    return f"{what} is {shown(got)} and should be {shown(want)}"


def misformed(got: Any, want: Any, what: str, axes: tuple[str, ...] = ()) -> str:
    """Say that a value is of another type than it has to be, or a tensor of another shape; nothing where it is not."""
    if said := _type(got, want, what):
        return said
    if isinstance(got, Tensor) and isinstance(want, Tensor) and got.shape != want.shape:
        return f"{what} has shape {shape(got)}; it should be {shape(want, axes)}"
    return ""


def shown(value: Any) -> str:
    """Return a number or word as it is written in a sentence."""
    if isinstance(value, Tensor):
        value = value.detach().item() if value.ndim == 0 else value.detach().tolist()
    if isinstance(value, float):
        return f"{value:.4g}"
    return _short(value)


def place(index: tuple[int, ...], axes: tuple[str, ...]) -> str:
    """Return where an entry is: `query 2, key 5`, or `[2, 5]` where the axes have no names."""
    if len(axes) == len(index):
        return ", ".join(f"{axis} {n}" for axis, n in zip(axes, index, strict=True))
    return f"[{', '.join(map(str, index))}]"


def shape(value: Tensor, axes: tuple[str, ...] = ()) -> str:
    """Return a shape, with the names of its axes where it has as many."""
    sizes = ", ".join(map(str, value.shape))
    named = f" ({' by '.join(axes)})" if axes and len(axes) == value.ndim else ""
    return f"[{sizes}]{named}"


def _type(got: Any, want: Any, what: str) -> str:
    """Say that a value is of another type than it has to be."""
    if got is None:
        return f"{what} is None: is a `return` missing?"
    if isinstance(want, Tensor):
        if is_number(got) and want.ndim == 0:
            return ""
        if not isinstance(got, Tensor):
            return f"{what} is {kind(got)}; it should be a tensor of shape {shape(want)}"
        if got.is_floating_point() != want.is_floating_point():
            kinds = {True: "real numbers", False: "whole numbers or truth values"}
            return (
                f"{what} holds {kinds[got.is_floating_point()]} ({_dtype(got)});"
                f" it should hold {kinds[want.is_floating_point()]} ({_dtype(want)})"
            )
        return ""
    if is_number(want):
        single = isinstance(got, Tensor) and got.ndim == 0
        return "" if is_number(got) or single else f"{what} is {_short(got)}, {kind(got)}; give one number"
    pairs = ((list | tuple, "list"), (dict, "dict"), (str, "str"), (bool, "bool"))
    for types, name in pairs:
        if isinstance(want, types) and not isinstance(got, types):
            return f"{what} is {kind(got)} ({_short(got)}); it should be a {name}"
    return ""


def _tensors(got: Tensor, want: Tensor, what: str, axes: tuple[str, ...], tolerance: float) -> str:
    got, want = got.detach().double(), want.detach().double()
    bad = ~torch.isclose(got, want, rtol=tolerance, atol=tolerance, equal_nan=True)
    if (lost := (~got.isfinite() & want.isfinite())).any():
        at = tuple(lost.nonzero()[0].tolist())
        return f"{what} is {shown(got[at])} at {place(at, axes)}, and should be {shown(want[at])}"
    if want.ndim == 0:
        return f"{what} is {shown(got)} and should be {shown(want)}"
    places = [tuple(each) for each in bad.nonzero()[:ROWS].tolist()]
    said = "; ".join(f"at {place(at, axes)} it is {shown(got[at])} and should be {shown(want[at])}" for at in places)
    count = int(bad.sum())
    of = "" if count <= len(places) else f" ({count} of {bad.numel()} entries differ)"
    return f"{what} is not right{of}: {said}"


def _dtype(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def kind(value: Any) -> str:
    """Return a value's type with its article, as in `an int`."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' or name == 'ndarray' else 'a'} {name}"


def _short(value: Any, most: int = 100) -> str:
    told = repr(value)
    return told if len(told) <= most else told[: most - 3] + "..."
