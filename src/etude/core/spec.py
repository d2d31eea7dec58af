"""Plain frozen data with a fingerprint: what recipes, family members and model shapes are made of.

A spec holds numbers, strings, flags, tuples of these, and other specs; no tensors, no open files. It is written as
JSON and read back equal, and equal specs have equal fingerprints, on every machine.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from etude.core.errors import DamagedError, EtudeError, UsageError

AUTO = "auto"
"""A choice left to the machine. `Spec.resolve` turns it into a value before anything is fingerprinted."""


def cosmetic(default: Any) -> Any:
    """Declare a field that cannot change the outcome (a device, a path whose content is hashed elsewhere)."""
    return field(default=default, metadata={"cosmetic": True})


@dataclass(frozen=True)
class Spec:
    """Base of everything that decides an outcome. Subclasses are frozen dataclasses whose fields have defaults
    wherever a sensible one exists.

    Values are checked and made canonical when the spec is built (`1` in a float field becomes `1.0`, a list becomes a
    tuple), so that specs that compare equal also serialise equally.

    Raises:
        UsageError: a value is not of its field's type, or `check` finds an impossible combination.
    """

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        for name, hint in field_types(type(self)).items():
            value = getattr(self, name)
            object.__setattr__(self, name, _canonical(value, hint, f"{label(type(self))}.{name}"))
        self.check()

    def check(self) -> None:
        """Raise UsageError where the fields contradict each other. Overridden by specs that can."""

    def settle(self) -> Self:
        """Return this spec with its own AUTO fields replaced by values. Overridden by specs that have any."""
        return self

    def resolve(self) -> Self:
        """Return this spec with every AUTO, here and below, replaced by the value that holds on this machine."""
        nested = {name: _map_specs(getattr(self, name), lambda s: s.resolve()) for name in field_types(type(self))}
        changed = {name: value for name, value in nested.items() if value != getattr(self, name)}
        return (dataclasses.replace(self, **changed) if changed else self).settle()

    def fingerprint(self) -> str:
        """Hash of what decides the outcome: name, version and every field that differs from its default (64 hex).

        Raises:
            UsageError: a field is still AUTO; call `resolve` first.
        """
        return hashlib.sha256(_dump(_essence(self)).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return every field, defaults too, as JSON data that `from_json` reads back equal."""
        return _plain(self)

    @classmethod
    def tag(cls) -> dict[str, Any]:
        """Return what names this class in JSON, beside its version."""
        return {}

    @classmethod
    def choose(cls, data: Mapping[str, Any]) -> type[Spec]:
        """Return the class that JSON data for a field of this type belongs to."""
        return cls

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Rebuild a spec from `to_json`'s data.

        Raises:
            DamagedError: the data has another shape or was written by another version of the class.
        """
        if not isinstance(data, dict):
            raise DamagedError(f"expected the fields of {label(cls)}, found {data!r}; the file was changed by hand")
        chosen = cls.choose(data)
        if not issubclass(chosen, cls):
            raise DamagedError(f"expected {label(cls)}, found {label(chosen)}")
        if data.get("version") != chosen.version:
            raise DamagedError(
                f"{label(chosen)} was written as version {data.get('version')} and this Etude has version"
                f" {chosen.version}; make it again, or read it with the release that wrote it"
            )
        hints = field_types(chosen)
        mistaken = [str(data.get(key)) for key, value in chosen.tag().items() if data.get(key) != value]
        if mistaken:
            raise DamagedError(f"expected {label(chosen)}, found {mistaken[0]}")
        extra = sorted(set(data) - set(hints) - set(chosen.tag()) - {"version"})
        if extra:
            raise DamagedError(f"{label(chosen)} has no field {extra[0]!r}; it has: {', '.join(hints)}")
        values = {name: _revive(data[name], hint) for name, hint in hints.items() if name in data}
        try:
            return typing.cast(Self, chosen(**values))
        except TypeError as error:
            raise DamagedError(f"{label(chosen)} cannot be read back: {error}") from None


def label(cls: type) -> str:
    """Return how messages name a spec class: its kind or member name, else the class name."""
    fields = {f.name for f in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else set()
    names = [getattr(cls, name, "") for name in ("kind", "name") if name not in fields]
    return str(next(filter(None, names), cls.__name__))


@functools.cache
def field_types(cls: type) -> dict[str, Any]:
    """Return the resolved type of each field of a spec class, in order."""
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


def specs_in(value: Any) -> Iterator[Spec]:
    """Yield the specs directly inside a spec's fields or a tuple, in order."""
    if isinstance(value, Spec):
        for name in field_types(type(value)):
            inner = getattr(value, name)
            if isinstance(inner, Spec):
                yield inner
            else:
                yield from specs_in(inner)
    elif isinstance(value, tuple):
        for item in value:
            if isinstance(item, Spec):
                yield item
            else:
                yield from specs_in(item)


def _map_specs(value: Any, change: Callable[[Spec], Spec]) -> Any:
    if isinstance(value, Spec):
        return change(value)
    if isinstance(value, tuple):
        return tuple(_map_specs(item, change) for item in value)
    return value


def _canonical(value: Any, hint: Any, where: str) -> Any:
    """Return the value in the one form that its type has, or raise the error that names the field."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _canonical(value, inner[0], where)
    if origin in (typing.Union, types.UnionType):
        return _canonical_union(value, inner, where)
    if origin is typing.Literal:
        for choice in inner:
            if type(choice) is type(value) and choice == value:  # True is no 1
                return choice
        raise UsageError(f"{where} = {value!r} is not one of: {', '.join(map(str, inner))}")
    if origin is tuple:
        if not isinstance(value, tuple | list):
            raise UsageError(f"{where} = {value!r} is not a list")
        element = inner[0] if len(inner) == 2 and inner[1] is Ellipsis else None
        hints = [element] * len(value) if element is not None else list(inner)
        if len(hints) != len(value):
            raise UsageError(f"{where} = {value!r} needs {len(hints)} values")
        return tuple(_canonical(item, kind, where) for item, kind in zip(value, hints, strict=True))
    return _canonical_leaf(value, hint, where)


def _canonical_union(value: Any, choices: tuple[Any, ...], where: str) -> Any:
    if value is None and type(None) in choices:
        return None
    problems = []
    for choice in choices:
        if choice is type(None) or (choice is int and float in choices):  # 1 and 1.0 are equal: both are kept as 1.0
            continue
        try:
            return _canonical(value, choice, where)
        except UsageError as error:
            problems.append(error)
    raise problems[-1]


def _canonical_leaf(value: Any, hint: Any, where: str) -> Any:
    if hint is bool and isinstance(value, bool):
        return value
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value):
        return float(value) + 0.0  # -0.0 and 0.0 are equal and must be written equally
    if hint is str and isinstance(value, str):
        return str(value)
    if isinstance(hint, type) and issubclass(hint, Spec) and isinstance(value, hint):
        return value
    names = {int: "a whole number", float: "a finite number", bool: "true or false", str: "text"}
    wanted = names.get(hint) or (label(hint) if isinstance(hint, type) else str(hint))
    raise UsageError(f"{where} = {value!r} is not {wanted}")


def _is_finite(value: float) -> bool:
    return abs(value) <= sys.float_info.max  # math.isfinite raises for 10**400


def _plain(value: Any) -> Any:
    if isinstance(value, Spec):
        fields = {name: _plain(getattr(value, name)) for name in field_types(type(value))}
        return {**value.tag(), "version": value.version, **fields}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _essence(value: Any) -> Any:
    """Return the part of a spec that decides the outcome, as JSON data."""
    if isinstance(value, tuple):
        return [_essence(item) for item in value]
    if not isinstance(value, Spec):
        return value
    essence: dict[str, Any] = {**value.tag(), "version": value.version}
    for f in dataclasses.fields(value):
        held = getattr(value, f.name)
        if f.metadata.get("cosmetic"):
            continue
        if held == AUTO and _may_be_auto(type(value), f):
            raise UsageError(f"{label(type(value))}.{f.name} is still 'auto'; resolve the recipe before naming its run")
        if isinstance(held, Spec) or any(specs_in(held)) or held != _default(f):  # a version inside may have changed
            essence[f.name] = _essence(held)
    return essence


def _may_be_auto(cls: type, f: dataclasses.Field[Any]) -> bool:
    """Return whether AUTO in a field leaves the choice to the machine: it is the default, or one of the words that the
    field takes. In any other field of text the same four letters are text."""
    return _default(f) == AUTO or _takes_auto(field_types(cls)[f.name])


def _takes_auto(hint: Any) -> bool:
    if typing.get_origin(hint) is typing.Literal:
        return AUTO in typing.get_args(hint)
    return any(_takes_auto(inner) for inner in typing.get_args(hint))


def _default(f: dataclasses.Field[Any]) -> Any:
    if f.default_factory is not dataclasses.MISSING:
        return f.default_factory()
    return f.default


def _dump(data: Any) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _revive(data: Any, hint: Any) -> Any:
    """Turn JSON data back into what a field of this type holds."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _revive(data, inner[0])
    if origin in (typing.Union, types.UnionType):
        return _revive_union(data, inner)
    if origin is tuple and isinstance(data, list):
        element = inner[0] if len(inner) == 2 and inner[1] is Ellipsis else None
        hints = [element] * len(data) if element is not None else list(inner)
        return tuple(_revive(item, kind) for item, kind in zip(data, hints, strict=False))
    if isinstance(hint, type) and issubclass(hint, Spec):
        return hint.from_json(data)
    return data


def _revive_union(data: Any, choices: tuple[Any, ...]) -> Any:
    """Read back as the choice that the data fits. Specs of the same fields in one union cannot be told apart."""
    if isinstance(data, list):
        lists = [choice for choice in choices if typing.get_origin(choice) is tuple]
        return _revive(data, lists[0]) if lists else data
    problems = []
    for choice in choices if isinstance(data, dict) else ():
        try:
            if isinstance(choice, type) and issubclass(choice, Spec):
                return choice.from_json(data)
        except EtudeError as error:
            problems.append(error)
    if problems:
        raise problems[0]
    return data
