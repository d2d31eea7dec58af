"""What recipes, members and their fields say of themselves in their docstrings."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Mapping

from etude.core.family import Family, Member, family_of
from etude.core.recipe import Recipe
from etude.studies.base import Study


def summary(cls: type) -> str:
    """Return the first sentence of a class's docstring, or nothing."""
    return first_sentence(documentation(cls))


def first_sentence(text: str) -> str:
    """Return a text up to its first full stop that ends a sentence, which that of "et al." does not."""
    return re.split(r"(?<=[.?!])(?<!et al\.)\s", text, maxsplit=1)[0]


def family_summary(family: Family) -> str:
    """Return the first sentence of what a family's folder says of itself."""
    return first_sentence(paragraphs(importlib.import_module(family.package).__doc__ or ""))


def documentation(cls: type) -> str:
    """Return a class's own docstring without its section of fields."""
    prose = re.split(r"^(?:Attributes|Raises):$", _docstring(cls), maxsplit=1, flags=re.MULTILINE)[0].strip()
    return paragraphs(prose)


def paragraphs(text: str) -> str:
    """Return a text with each paragraph on one line, for whoever shows it to break as it fits."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n"))


def field_help(cls: type) -> dict[str, str]:
    """Return what the `Attributes:` sections of a class and of those it derives from say of each field."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        section = re.split(r"^Attributes:$", _docstring(base), maxsplit=1, flags=re.MULTILINE)[1:]
        inside = re.split(r"^\S", section[0], maxsplit=1, flags=re.MULTILINE)[0] if section else ""
        for name, text in re.findall(r"^    (\w+): (.*(?:\n(?:     .*)?)*)", inside, flags=re.MULTILINE):
            found[name] = " ".join(text.split())
    return found


def is_study(cls: type[Recipe]) -> bool:
    """Return whether a kind of recipe is a study."""
    return issubclass(cls, Study)


def presets_of(cls: type[Recipe]) -> Mapping[str, Recipe]:
    """Return the named choices of a study; none for other recipes."""
    return cls.presets() if issubclass(cls, Study) else {}


def path_of(member: type[Member]) -> str:
    """Return a member's place in the house, as in `compress/methods/pca`."""
    return f"{family_of(member).path}/{member.name}"


def _docstring(cls: type) -> str:
    text = cls.__dict__.get("__doc__") or ""
    return "" if text.startswith(f"{cls.__name__}(") else inspect.cleandoc(text)  # what dataclass makes up says nothing
