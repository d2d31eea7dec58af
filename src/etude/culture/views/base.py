"""What a view is: numbers that a player has of its world, seen from where it stands."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from etude.core.family import Member
from etude.culture.goal_cycle import GoalCycle


@dataclass(frozen=True)
class View(Member):
    """Base of the family.

    Attributes:
        feels: whether a player also has what its last step counted, 1, 0 or -1. Without it a player that is alone
            cannot find the order out.
    """

    feels: bool = True

    @abstractmethod
    def width(self, colours: int, players: int) -> int:
        """Return W, how many numbers there are."""

    @abstractmethod
    def see(self, game: GoalCycle, player: int, present: Bool[np.ndarray, "B P"]) -> Float[np.ndarray, "B W"]:
        """Return what a player sees.

        Args:
            game: the worlds.
            player: whose view it is.
            present: which players can be seen; its own column does not matter.
        """
