"""Walks a recipe to its leaves, and makes a recipe of what a command line says of them.

A leaf is one flag, named by its path: `--model.width`. A field that holds a spec has that spec's fields below it. One
that holds a family's member takes the member's name, and the chosen member's fields below: `--method infovae
--method.latent 20`. One that holds a recipe takes a run, whose recipe it then is, or a kind of recipe, and below it
that recipe's fields: `--of train-3fa2 --of.seed 1`. So which leaves there are depends on what is chosen, and the words
of the command line are looked through for choices first, in whatever order they stand.

A tuple of plain specs has a flag where the spec's class reads words (`from_words`): the parts of a mix.

Not covered: tuples of other plain specs, and tuples of tuples; a `recipe.json` can hold them.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Group, Parameter, Token

from etude.cli.fields import MISSING, Field, Find, Path, fields_of, negative_of, path_of_flag
from etude.core import values
from etude.core.errors import UsageError
from etude.core.spec import Spec, label


@dataclass(frozen=True)
class Asked:
    """What a command line says, before it is known what its flags mean.

    Attributes:
        first: the first word after each flag, by path.
        find: finds the recipe that a word names.
    """

    first: Mapping[Path, str]
    find: Find

    def below(self, path: Path) -> bool:
        """Whether anything is said of the fields below a path."""
        return any(len(asked) > len(path) and asked[: len(path)] == path for asked in self.first)


def scan(words: Sequence[str]) -> dict[Path, str]:
    """Return the first word after each flag, by path; nothing for a flag that another follows."""
    found: dict[Path, str] = {}
    for word, after in zip(words, [*words[1:], "--"], strict=False):
        if word.startswith("--") and len(word) > 2:
            has_value, value = "=" in word, word.partition("=")[2]
            found[path_of_flag(word)] = value if has_value else "" if after.startswith("--") else after
    return found


@dataclass(frozen=True)
class Branch:
    """A spec on the way from a recipe to its leaves.

    Attributes:
        cls: what is built.
        base: what it is built from; None where there are only the class's own defaults.
        path: of the field that holds it.
        chosen: whether the command line named it.
        fields: by name.
        branches: the specs that fields hold, by name.
    """

    cls: type[Spec]
    base: Spec | None
    path: Path
    chosen: bool
    fields: Mapping[str, Field]
    branches: Mapping[str, Branch]

    def leaves(self) -> Iterator[Field]:
        """Yield every field that has a flag, a field's own before those below it."""
        for name, field in self.fields.items():
            if field.shape:
                yield field
            if name in self.branches:
                yield from self.branches[name].leaves()

    def at(self, path: Path) -> Branch | None:
        """Return the branch at a path, or None."""
        if path == self.path:
            return self
        below = self.branches.get(path[len(self.path)])
        return below.at(path) if below else None

    def build(self, given: Mapping[Path, Any]) -> Spec:
        """Return the spec with the given values, by path, put in from the inside out.

        Raises:
            UsageError: a field has no value, or the spec refuses one.
        """
        held = {name: given[field.path] for name, field in self.fields.items() if field.path in given}
        for name, branch in self.branches.items():
            if branch.base is not None or branch._is_wanted(given) or not self.fields[name].shape:
                held[name] = branch.build(given)
        if self.base is not None:
            changed = {name: value for name, value in held.items() if value != getattr(self.base, name)}
            return dataclasses.replace(self.base, **changed) if changed else self.base
        for name, field in self.fields.items():
            if field.default is MISSING and name not in held:
                raise UsageError(f"{label(self.cls)} needs {field.flag}: {field.help.removesuffix(' Required.')}")
        return self.cls(**held)

    def _is_wanted(self, given: Mapping[Path, Any]) -> bool:
        return self.chosen or any(path[: len(self.path)] == self.path for path in given)


def grow(cls: type[Spec], base: Spec | None, asked: Asked, path: Path = (), *, chosen: bool = False) -> Branch:
    """Return a spec's fields and branches, with the members and recipes that the command line chose.

    Raises:
        UsageError: there is no such member or run; or something is said of a member's fields and none is chosen.
    """
    fields = {field.path[-1]: field for field in fields_of(cls, base, path)}
    branches: dict[str, Branch] = {}
    for name, field in fields.items():
        if held := _held(field, asked):
            branches[name] = grow(*held, asked, field.path, chosen=bool(field.shape) and field.path in asked.first)
    return Branch(cls, base, path, chosen, fields, branches)


def _held(field: Field, asked: Asked) -> tuple[type[Spec], Spec | None] | None:
    """Return the class of the spec that a field holds and what to start from, or None where it holds none."""
    if field.spec is None or field.several:
        return None
    default = field.default if isinstance(field.default, Spec) else None
    word = asked.first.get(field.path) if field.shape else None
    if word == values.NONE and field.optional:
        return None
    if word:
        chosen = field.choose(word, asked.find)
        if isinstance(chosen, Spec):
            return type(chosen), chosen
        return chosen, default if type(default) is chosen else None
    if default is not None:
        return type(default), default
    if field.family or (field.recipe and not field.recipe.kind):  # any of several: what is below depends on the choice
        if asked.below(field.path):
            raise UsageError(f"{field.flag} is not chosen, so that nothing can be set below it. {field.choices}")
        return None
    return (field.spec, None) if field.default is MISSING or asked.below(field.path) else None


def parameters(branch: Branch, find: Find) -> list[inspect.Parameter]:
    """Return the leaves as keyword parameters that cyclopts understands. One that is not given is not passed on."""
    groups: dict[str, Group] = {}
    return [_parameter(field, groups.setdefault(field.group, _group(field, groups)), find) for field in branch.leaves()]


def _group(field: Field, groups: Mapping[str, Group]) -> Group:
    return Group(field.group, sort_key=len(groups))


def _parameter(field: Field, group: Group, find: Find) -> inspect.Parameter:
    def convert(_: Any, tokens: Sequence[Token]) -> Any:
        return field.read([token.value for token in tokens], find)

    # Where pydantic is loaded, cyclopts holds values against these, and after `convert` they may be of any type.
    kind: Any = {"flag": bool | None, "word": Any, "words": list[Any] | None}[field.shape or "word"]
    negative = negative_of(field.flag) if field.shape == "flag" else ()
    shared: dict[str, Any] = {"name": field.flag, "negative": negative, "help": field.help, "group": group}
    shared |= {"json_list": False, "json_dict": False}  # words reach `convert` as they were typed
    if field.shape != "flag":
        shared |= {"converter": convert, "metavar": field.metavar, "consume_multiple": field.shape == "words" or None}
    hint = Annotated[kind, Parameter(show_default=False, **shared)]
    return inspect.Parameter(name_of(field.path), inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)


def name_of(path: Path) -> str:
    """Return the name of a leaf's parameter."""
    return "__".join(path)
