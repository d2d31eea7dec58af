"""Fields inside fields: a recipe's fields by their dotted paths, what each may hold, and a recipe with others in them.

`schedule.peak` is a path; so is `optimiser`, which holds a family's member and takes another one's name. Not covered:
fields that hold a tuple, and what stands inside one.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from etude.core import values
from etude.core.errors import UsageError
from etude.core.family import Family, Member, family_of, is_base
from etude.core.spec import Spec, field_types, label

Path = tuple[str, ...]

S = TypeVar("S", bound=Spec)


@dataclass(frozen=True)
class Place:
    """A field somewhere inside a spec, and what it holds.

    Attributes:
        path: the names that lead to it.
        hint: its type.
        held: its value.
        is_cosmetic: whether it cannot change the outcome.
    """

    path: Path
    hint: Any
    held: Any
    is_cosmetic: bool

    @property
    def name(self) -> str:
        return dotted(self.path)

    @property
    def family(self) -> Family | None:
        """The family that it takes any member of, if it does."""
        kind = _bare(self.hint)
        is_member = isinstance(kind, type) and issubclass(kind, Member) and is_base(kind)
        return family_of(kind) if is_member else None

    @property
    def is_settable(self) -> bool:
        """Whether one word can say what it holds."""
        return self.family is not None or (values.settable(self.hint) and not values.is_list(_bare(self.hint)))

    @property
    def is_number(self) -> bool:
        """Whether it holds a number of a range, and not one of a few."""
        return _bare(self.hint) in (int, float)

    @property
    def is_whole(self) -> bool:
        """Whether its numbers are whole ones."""
        return _bare(self.hint) is int

    def read(self, word: str) -> Any:
        """Return the value that a word stands for: of a family its member, as it is held here or by its defaults.

        Raises:
            UsageError: it is not of the field's type.
        """
        if self.family is None or (word == values.NONE and type(None) in typing.get_args(self.hint)):
            return values.read(word, self.hint, self.name)
        member = self.family.member(word)
        if type(self.held) is member:
            return self.held
        needed = [f.name for f in dataclasses.fields(member) if _has_no_default(f)]
        if needed:
            raise UsageError(f"{self.name} {word!r} has no default for {needed[0]}, and cannot stand alone")
        return member()


def places(spec: Spec, path: Path = ()) -> Iterator[Place]:
    """Yield every field of a spec and of the specs inside it, outer ones first."""
    cosmetic = {f.name: bool(f.metadata.get("cosmetic")) for f in dataclasses.fields(spec)}
    for name, hint in field_types(type(spec)).items():
        held = getattr(spec, name)
        yield Place((*path, name), hint, held, cosmetic[name])
        if isinstance(held, Spec):
            yield from places(held, (*path, name))


def place(spec: Spec, text: str) -> Place:
    """Return the field that a dotted path names, written with `-` or `_`, and with or without dashes in front.

    Raises:
        UsageError: there is none, with the nearest; or it takes no single value.
    """
    path = tuple(text.strip().removeprefix("--").replace("-", "_").split("."))
    found = {each.path: each for each in places(spec)}
    if path not in found:
        raise _unknown(spec, path, found)
    if not found[path].is_settable:
        below = [name for other in found if other[:-1] == path and (name := dotted(other))]
        instead = f"set one of its fields: {', '.join(below)}" if below else "it takes several values, or a run"
        raise UsageError(f"{dotted(path)} of {label(type(spec))} takes no single value; {instead}")
    return found[path]


def changed(spec: S, held: Mapping[Path, Any]) -> S:
    """Return a spec with other values in its fields, all put in at once, from the inside out.

    Args:
        spec: what to change.
        held: the values by path. One at a path and others below it: these go into the former.

    Raises:
        UsageError: a spec refuses its values, or has no such field.
    """
    below: dict[str, dict[Path, Any]] = {}
    for path, value in held.items():
        below.setdefault(path[0], {})[path[1:]] = value
    new: dict[str, Any] = {}
    for name, inner in below.items():
        if name not in field_types(type(spec)):
            raise _unknown(spec, (name,), {each.path: each for each in places(spec)})
        value = inner.pop((), getattr(spec, name))
        new[name] = changed(value, inner) if inner else value
    return dataclasses.replace(spec, **new)


def dotted(path: Path) -> str:
    """Return a path as a person writes it."""
    return ".".join(path)


def _unknown(spec: Spec, path: Path, found: Mapping[Path, Place]) -> UsageError:
    """Return the error for a path that leads nowhere. Last parts count first: `peak` means `schedule.peak`."""
    settable = [other for other, each in found.items() if each.is_settable]
    ends = difflib.get_close_matches(path[-1], {other[-1] for other in settable}, n=1, cutoff=0.75)
    likely = [dotted(other) for other in settable if not ends or other[-1] == ends[0]]
    nearest = difflib.get_close_matches(dotted(path), likely, n=1, cutoff=0.0 if ends else 0.6)
    hint = f" did you mean {nearest[0]!r}?" if nearest else ""
    deepest = max((other for other in [(), *found] if other == path[: len(other)]), key=len)
    near = [other for other in settable if len(deepest) == 0 or other[: len(deepest)] == deepest]
    listed = ", ".join(dotted(other) for other in near) or "none"
    return UsageError(f"unknown field {dotted(path)!r} of {label(type(spec))}:{hint} There are: {listed}.")


def _bare(hint: Any) -> Any:
    """Return a type without None."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        inner = [kind for kind in typing.get_args(hint) if kind is not type(None)]
        return inner[0] if len(inner) == 1 else hint
    return hint


def _has_no_default(f: dataclasses.Field[Any]) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
