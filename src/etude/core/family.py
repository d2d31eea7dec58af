"""Families: a folder with `base.py` and one file a member. Dropping a file in is the whole work of adding one."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import etude
from etude.core.errors import UsageError, unknown
from etude.core.spec import Spec


@dataclass(frozen=True)
class Member(Spec):
    """One member of a family: its choices as plain data. The base class in the family's `base.py` derives from this,
    and each member's file holds one subclass, named on the command line as the file is (`_` written as `-`).

    A member's module imports without PyTorch; what it builds may import it.
    """

    name: ClassVar[str] = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.name = family_of(cls).noun if is_base(cls) else cls.__module__.rpartition(".")[2].replace("_", "-")

    @classmethod
    def tag(cls) -> dict[str, Any]:
        return {"member": cls.name}

    @classmethod
    def choose(cls, data: Mapping[str, Any]) -> type[Spec]:
        return family_of(cls).member(str(data.get("member"))) if is_base(cls) else cls


@dataclass(frozen=True)
class Family:
    """A folder of interchangeable members.

    Attributes:
        path: the folder within the package, as in `compress/methods`.
    """

    path: str

    @property
    def package(self) -> str:
        return "etude." + self.path.replace("/", ".")

    def base(self) -> type[Member]:
        """Return the class that every member derives from."""
        module = importlib.import_module(f"{self.package}.base")
        return next(cls for cls in _members_defined_in(module) if cls.__module__ == module.__name__)

    def names(self) -> list[str]:
        """Return the members' names, from the folder alone: no member is imported.

        Raises:
            UsageError: there is no such family.
        """
        try:
            folder = importlib.import_module(self.package).__path__
        except ModuleNotFoundError as error:
            if not f"{self.package}.".startswith(f"{error.name}."):
                raise
            raise unknown("family", self.path, families(), see="etude list") from None
        files = (m.name for m in pkgutil.iter_modules(folder) if not m.ispkg)
        return sorted(f.replace("_", "-") for f in files if f != "base" and not f.startswith("_"))

    def member(self, name: str) -> type[Member]:
        """Import one member.

        Raises:
            UsageError: there is none of that name; the message has the nearest match and the whole list.
        """
        if name not in self.names():
            raise unknown(f"{self.noun}", name, self.names(), see=f"etude list {self.path}")
        module = importlib.import_module(f"{self.package}.{name.replace('-', '_')}")
        found = [cls for cls in _members_defined_in(module) if cls.__module__ == module.__name__]
        if len(found) != 1:
            raise UsageError(f"{module.__name__} must define one member of {self.path}, it defines {len(found)}")
        return found[0]

    def __iter__(self) -> Iterator[type[Member]]:
        return (self.member(name) for name in self.names())

    @property
    def noun(self) -> str:
        """What one member is called in messages: `method` for `compress/methods`, `corpus` for `text/corpora`."""
        last = self.path.rpartition("/")[2]
        irregular = {"corpora": "corpus", "attention": "attention", "studies": "study"}
        return irregular.get(last, last.removesuffix("s"))


def _members_defined_in(module: Any) -> list[type[Member]]:
    classes = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Member)]
    return [cls for cls in classes if cls.__module__ == module.__name__]


def is_base(cls: type) -> bool:
    """Return whether a class is a family's base (it stands in a `base.py`), so that a field of it takes any member."""
    return issubclass(cls, Member) and cls.__module__.rpartition(".")[2] == "base"


def family_of(base: type[Member]) -> Family:
    """Return the family that a base class, or a member, belongs to."""
    inside = base.__module__.rpartition(".")[0]
    return Family(inside.removeprefix("etude.").replace(".", "/"))


@functools.cache
def families() -> dict[str, Family]:
    """Return every family in the house by path: each folder that has a `base.py`."""
    found = {}
    for module in pkgutil.walk_packages(etude.__path__, "etude."):
        if module.ispkg and importlib.util.find_spec(f"{module.name}.base"):
            family = Family(module.name.removeprefix("etude.").replace(".", "/"))
            found[family.path] = family
    return found


def member(path: str, name: str, /, **fields: Any) -> Member:
    """Build a member by family and name, as in `member("compress/methods", "svd", rank=5)`."""
    return cast(Member, Family(path).member(name)(**fields))
