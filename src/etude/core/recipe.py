"""Recipe: everything that decides the outcome of one piece of work."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import etude
from etude.core.errors import UsageError, unknown
from etude.core.spec import Spec, label, specs_in

if TYPE_CHECKING:
    from etude.core.run import Run

_KINDS: dict[str, type[Recipe]] = {}


@dataclass(frozen=True)
class Estimate:
    """What a piece of work will cost, as far as it can be known before it starts."""

    parameters: int = 0
    flops: float = 0.0
    disk_bytes: int = 0


@dataclass(frozen=True)
class Recipe(Spec):
    """One piece of work as plain data. A recipe may hold other recipes: they are made first, and their runs are handed
    to the work as its inputs.

    Subclasses say their kind and where the work is: `class Train(Recipe, kind="train", does="etude.train.work:train")`.
    The work is a function `do(recipe, inputs, run) -> result`, imported only when it starts, so that recipes can be
    read and planned without PyTorch. Recipes live in a module `recipes.py` of their floor, or are studies.

    A kind whose `together` is true is done by all processes that `torchrun` started, side by side; of any other the
    first process does the work and the rest wait.
    """

    kind: ClassVar[str] = ""
    does: ClassVar[str] = ""
    together: ClassVar[bool] = False

    def __init_subclass__(cls, *, kind: str = "", does: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.kind, cls.does = kind or cls.kind, does or cls.does
        if kind:
            _KINDS[kind] = cls

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        """Return the recipes that this one needs, given those already done. The lab asks until nothing new comes.

        The default needs the recipes held in the fields. One that derives its needs, or that decides a later need from
        an earlier result, overrides this.
        """
        return tuple(recipes_in(self))

    def estimate(self) -> Estimate:
        """Return what the work will cost, without its inputs. Unknown costs are 0."""
        return Estimate()

    def in_words(self, run: Run) -> Iterable[str]:
        """Return the lines that a person asked to see of the run, with a cosmetic field, before its result."""
        return ()

    @property
    def id(self) -> str:
        """The name of the run that this recipe makes: kind and the start of the fingerprint."""
        return f"{self.kind}-{self.fingerprint()[:12]}"

    @classmethod
    def tag(cls) -> dict[str, Any]:
        return {"kind": cls.kind}

    @classmethod
    def choose(cls, data: Mapping[str, Any]) -> type[Recipe]:
        return kind_named(str(data.get("kind")))


def recipes_in(spec: Spec) -> Iterable[Recipe]:
    """Yield the recipes held in a spec's fields, through plain specs and tuples, but not inside other recipes."""
    for inner in specs_in(spec):
        if isinstance(inner, Recipe):
            yield inner
        else:
            yield from recipes_in(inner)


def kinds() -> dict[str, type[Recipe]]:
    """Return every kind of recipe: those in each floor's files that end in `recipes.py`, the studies, and any that the
    caller defined."""
    for path in etude.__path__:
        for file in sorted(Path(path).glob("*/*recipes.py")):
            importlib.import_module(f"etude.{file.parent.name}.{file.stem}")
    if importlib.util.find_spec("etude.studies"):
        for study in pkgutil.iter_modules(importlib.import_module("etude.studies").__path__):
            if not study.ispkg and not study.name.startswith("_"):
                importlib.import_module(f"etude.studies.{study.name}")
    return dict(_KINDS)


def kind_named(name: str) -> type[Recipe]:
    """Return the recipe class of a kind.

    Raises:
        UsageError: there is no such kind.
    """
    found = _KINDS.get(name) or kinds().get(name)
    if found is None:
        raise unknown("kind of run", name, kinds(), see="etude list")
    return found


def work_of(recipe: Recipe) -> Any:
    """Import and return the function that does a recipe's work."""
    module, _, function = recipe.does.partition(":")
    if not function:
        raise UsageError(f"{label(type(recipe))} names no work: give its class does='module:function'")
    return getattr(importlib.import_module(module), function)
