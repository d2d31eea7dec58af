"""One field of a spec as the command line sees it: what sort of thing it holds, and how words become its value."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from etude.cli.describe import field_help
from etude.core import values
from etude.core.errors import UsageError
from etude.core.family import Family, Member, family_of, is_base
from etude.core.recipe import Recipe, kinds
from etude.core.spec import Spec, field_types, label

Path = tuple[str, ...]
Find = Callable[[str, type[Recipe], str], Recipe | type[Recipe]]
"""Returns the recipe, or the kind of recipe, that a word names, given what is wanted and the flag it stands after."""

MISSING = dataclasses.MISSING


@dataclass(frozen=True)
class Field:
    """A field on its way to the command line.

    Attributes:
        path: from the recipe.
        hint: its type.
        default: what it holds where nothing is said, or MISSING.
        about: what its spec's docstring says of it.
        group: the heading of the help that it stands under.
    """

    path: Path
    hint: Any
    default: Any
    about: str
    group: str

    @property
    def flag(self) -> str:
        return flag_of(self.path)

    @property
    def bare(self) -> Any:
        """Its type without None."""
        inner = [kind for kind in typing.get_args(self.hint) if kind is not type(None)]
        is_union = typing.get_origin(self.hint) in (typing.Union, types.UnionType)
        return inner[0] if is_union and len(inner) == 1 else self.hint

    @property
    def optional(self) -> bool:
        return self.bare is not self.hint

    @property
    def several(self) -> bool:
        return typing.get_origin(self.bare) is tuple

    @property
    def spec(self) -> type[Spec] | None:
        """The class of spec that the field, or each element of its tuple, holds; None where it holds plain data."""
        kind = typing.get_args(self.bare)[0] if self.several else self.bare
        return kind if isinstance(kind, type) and issubclass(kind, Spec) else None

    @property
    def worded(self) -> Any:
        """The class of plain spec in the field's tuple that reads and writes its own words (`from_words`, `as_words`),
        as the parts of a mix do; None elsewhere."""
        return self.spec if self.several and hasattr(self.spec, "from_words") else None

    @property
    def recipe(self) -> type[Recipe] | None:
        """The recipe that the field holds, if it holds one: a run stands for it."""
        return self.spec if self.spec and issubclass(self.spec, Recipe) else None

    @property
    def family(self) -> Family | None:
        """The family that the field takes any member of, if it does."""
        return family_of(self.spec) if self.spec and issubclass(self.spec, Member) and is_base(self.spec) else None

    @property
    def choices(self) -> str:
        """What its one word may be, for the help."""
        if self.recipe:
            fitting = sorted(n for n, kind in kinds().items() if issubclass(kind, self.recipe))
            return "Runs, by id or name" if self.several else f"A run, by id or name; or {' or '.join(fitting)}"
        if self.family:
            return f"One of: {', '.join(self.family.names())}"
        if self.several and str in typing.get_args(self.bare):  # as `values.read_list` has it
            return """As a JSON list, '[", ", "b"]', where one has a comma, or a space at an end"""
        options = typing.get_args(self.bare) if typing.get_origin(self.bare) is Literal else ()
        return f"One of: {', '.join(map(values.written, options))}" if options else ""

    @property
    def shape(self) -> Literal["flag", "word", "words"] | None:
        """How many words follow its flag, or None where it has no flag of its own."""
        if self.recipe or self.family or self.worded:
            return "words" if self.several else "word"
        if self.spec or not values.settable(self.bare):
            return None
        return "flag" if self.hint is bool else "words" if self.several else "word"

    @property
    def metavar(self) -> str:
        """What follows its flag, in one word for the help."""
        if self.recipe or self.family:
            return "RUN" if self.recipe else str(self.family and self.family.noun.upper())
        if self.worded:
            return "TEXT"
        kind = typing.get_args(self.bare)[0] if self.several else self.bare
        return {int: "INT", float: "NUMBER", str: "TEXT", bool: "YES|NO"}.get(kind, "CHOICE") + (",..." * self.several)

    @property
    def help(self) -> str:
        """What it is, what it may be, and its default."""
        said = ". ".join(filter(None, [self.about.rstrip("."), self.choices])) or self.path[-1]
        if self.default is MISSING:
            return f"{said}. Required."
        return (
            f"{said}. [{label(type(self.default)) if isinstance(self.default, Spec) else self.written(self.default)}]"
        )

    def written(self, value: Any) -> str:
        """Return a value that is no spec as the word after the flag."""
        return self.worded.as_words(value) if self.worded else values.written(value)

    def read(self, words: Sequence[str], find: Find) -> Any:
        """Return the value that the words after the flag stand for.

        Raises:
            UsageError: they are not of the field's type.
        """
        if self.optional and list(words) == [values.NONE]:
            return None
        if self.worded:
            return self.worded.from_words(words)
        if self.spec and self.several:
            return tuple(self._made(word, find) for word in values.split(words))
        if self.spec:
            return words[0]  # what it chooses is a branch, with the fields below it
        if self.several:
            return values.read_list(words, self.bare, self.flag)
        return values.read(words[0], self.bare, self.flag)

    def _made(self, word: str, find: Find) -> Spec:
        chosen = self.choose(word, find)
        return chosen() if isinstance(chosen, type) else chosen

    def choose(self, word: str, find: Find) -> Spec | type[Spec]:
        """Return the member's class, or the recipe or kind of recipe, that a word names."""
        if self.recipe:
            return find(word, self.recipe, self.flag)
        if self.family:
            return self.family.member(word)
        raise TypeError(f"{self.flag} chooses nothing")


def no_recipe(word: str, wanted: type[Recipe], flag: str) -> Recipe:
    """Find no recipe: what is asked for here holds none."""
    raise UsageError(f"{flag} takes no {label(wanted)}, as in {word!r}")


def fields_of(cls: type[Spec], base: Spec | None, path: Path) -> list[Field]:
    """Return a spec's fields, with the defaults of `base` or else the class's own."""
    about, group = field_help(cls), f"{flag_of(path)}: {label(cls)}" if path else f"Fields of {label(cls)}"
    found = []
    for f in dataclasses.fields(cls):
        default = default_of(f) if base is None else getattr(base, f.name)
        found.append(Field((*path, f.name), field_types(cls)[f.name], default, about.get(f.name, ""), group))
    return found


def default_of(f: dataclasses.Field[Any]) -> Any:
    """Return a field's default, or MISSING."""
    return f.default if f.default_factory is MISSING else f.default_factory()


def flag_of(path: Path) -> str:
    """Return the flag of a path: `--data.corpus.text-field`."""
    return "--" + ".".join(path).replace("_", "-")


def negative_of(flag: str) -> str:
    """Return the flag that says no: `--no-model.tied` for `--model.tied`."""
    return f"--no-{flag.removeprefix('--')}"


def path_of_flag(flag: str) -> Path:
    """Return the path of a flag, which may be written with `_` or `-`, and with its value after `=`."""
    return tuple(flag.partition("=")[0].removeprefix("--").replace("-", "_").split("."))
