"""An expert that errs."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int

from etude.core.errors import UsageError
from etude.culture.experts.base import Expert
from etude.culture.experts.shortest import Shortest
from etude.culture.goal_cycle import GoalCycle
from etude.culture.layout import Layout
from etude.culture.routes import ACTIONS


@dataclass(frozen=True)
class Noisy(Expert):
    """Do as another does, but anything at all in some steps.

    Attributes:
        of: the other.
        chance: of a step to be random.
    """

    of: Expert = field(default_factory=Shortest)
    chance: float = 0.25

    def check(self) -> None:
        if not 0 <= self.chance <= 1:
            raise UsageError(f"chance = {self.chance:g}: give a chance, from 0 to 1")

    def act(self, game: GoalCycle, player: int, draw: np.random.Generator) -> Int[np.ndarray, " B"]:
        actions = self.of.act(game, player, draw)
        anything = draw.integers(0, ACTIONS, game.worlds)
        return np.where(draw.random(game.worlds) < self.chance, anything, actions)

    def layouts(self) -> Layout | None:
        return self.of.layouts()
