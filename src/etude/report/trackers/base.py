"""What a tracker is: a place of somebody else's to which metrics go. The record stays the truth."""

from __future__ import annotations

import importlib.util
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from etude.core.errors import UsageError
from etude.core.family import Member

Points = dict[int, dict[str, float]]
"""Values by step and name."""


class Sink(Protocol):
    """One run in a tracker."""

    def held(self) -> Points:
        """Return what the tracker has of the run already, from whoever wrote it."""
        ...

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write values of a step."""
        ...

    def rewind(self, step: int) -> None:
        """Take back what stands at a step and after it, as far as the tracker can: other values are coming."""
        ...

    def close(self, *, done: bool) -> None:
        """Write out what is left, and say whether the run is complete."""
        ...


@dataclass(frozen=True)
class Tracker(Member):
    """Base of the family.

    Attributes:
        place: where it is: a folder, or an address.
        needs: the module that it needs.
        extra: the extra that installs that.
        takes: what `place` is, in a word for messages.
    """

    needs: ClassVar[str] = ""
    extra: ClassVar[str] = ""
    takes: ClassVar[str] = "FOLDER"

    place: str

    def check(self) -> None:
        if not self.place:
            raise UsageError(f"the tracker {self.name} has no place: write {self.name}:{self.takes}")

    def require(self) -> None:
        """Raise UsageError where what it needs is not installed. It is asked before any work begins."""
        if self.needs and importlib.util.find_spec(self.needs) is None:
            raise UsageError(f"the tracker {self.name} needs what is not installed: pip install 'etude[{self.extra}]'")

    @abstractmethod
    def open(self, run: str, recipe: Mapping[str, Any]) -> Sink:
        """Open a run in the tracker, or open it again.

        Args:
            run: the run's id.
            recipe: its recipe as JSON data.
        """
