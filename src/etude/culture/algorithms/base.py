"""What an algorithm of reinforcement learning is: choices as data that build what learns."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from etude.core.errors import UsageError
from etude.core.family import Member

if TYPE_CHECKING:
    from etude.culture.learners.environments import Environments
    from etude.culture.learners.learner import Learner

POSITIVE = ("rate", "width", "environments", "horizon", "episodes", "epochs", "batch", "memory", "every", "lag", "clip")
"""Fields that are above 0 wherever a member has them."""

SHARES = ("discount", "decay", "explored", "exploring")
"""Fields from 0 to 1 wherever a member has them."""


@dataclass(frozen=True)
class Algorithm(Member):
    """Base of the family.

    A member says in `adds` what it has beyond the ones before it, in a clause for a page, and in `source` where its
    equation stands. `rung` is its place on the ladder.
    """

    rung: ClassVar[int] = 99
    label: ClassVar[str] = ""
    adds: ClassVar[str] = ""
    source: ClassVar[str] = ""

    def check(self) -> None:
        """Refuse numbers out of their range. A member that overrides this calls it."""
        for name in POSITIVE:
            if getattr(self, name, 1) <= 0:
                raise UsageError(f"{self.name}.{name} = {getattr(self, name)} is too small: it is over 0")
        for name in SHARES:
            if not 0 <= getattr(self, name, 0) <= 1:
                raise UsageError(f"{self.name}.{name} = {getattr(self, name)} is no share: it is from 0 to 1")

    @property
    def beside(self) -> int:
        """Environments that are played side by side."""
        return int(getattr(self, "environments", 1))

    @abstractmethod
    def learner(self, environments: Environments, steps: int, seed: int) -> Learner:
        """Return what learns, before its first step.

        Args:
            environments: what it plays, `beside` of them.
            steps: how many steps it is to take in each.
            seed: of its weights and of what it draws.
        """
