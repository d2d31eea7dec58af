"""What an expert is: a way to move that may know everything, the hidden order too."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from etude.core.family import Member
from etude.culture.goal_cycle import GoalCycle
from etude.culture.layout import Layout


@dataclass(frozen=True)
class Expert(Member):
    """Base of the family. An expert keeps nothing between steps: what it does follows from the game and the draw."""

    @abstractmethod
    def act(self, game: GoalCycle, player: int, draw: np.random.Generator) -> Int[np.ndarray, " B"]:
        """Return what a player does next in every world.

        Raises:
            UsageError: the expert does not fit the worlds.
        """

    def layouts(self) -> Layout | None:
        """Return the only worlds in which it can play, or None for any."""
        return None
