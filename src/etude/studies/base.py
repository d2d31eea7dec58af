"""What a study is: a question, as two pure functions around the lab that does the work."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from etude.core.errors import unknown
from etude.core.family import Member
from etude.core.recipe import Recipe
from etude.core.run import Run

if TYPE_CHECKING:
    from etude.report.blocks import Report


@dataclass(frozen=True)
class Study(Recipe, Member):
    """Base of the family. A study is a recipe whose needs are planned from what is done already; its run holds the
    numbers and the page. It trains nothing itself and touches no file.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        name = cls.__module__.rpartition(".")[2].replace("_", "-")
        super().__init_subclass__(kind=name, does="etude.studies._engine:carry_out", **kwargs)

    @abstractmethod
    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        """Return every recipe that is wanted, given those done. It is asked until it asks for nothing new."""

    @abstractmethod
    def tell(self, done: Mapping[Recipe, Run]) -> Report:
        """Return the answer as a page."""

    @abstractmethod
    def answer(self, done: Mapping[Recipe, Run]) -> dict[str, Any]:
        """Return the answer's numbers as JSON data: the result of the study's run, and what `tell` puts in words."""

    @classmethod
    def presets(cls) -> Mapping[str, Self]:
        """Return the study's named choices of parameters."""
        return {}

    @classmethod
    def preset(cls, name: str) -> Self:
        """Return a preset.

        Raises:
            UsageError: there is none of that name.
        """
        found = cls.presets()
        if name not in found:
            raise unknown(f"preset of {cls.kind}", name, found)
        return found[name]
