"""An expert that takes its time."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int

from etude.core.errors import UsageError
from etude.culture.experts.base import Expert
from etude.culture.experts.shortest import Shortest
from etude.culture.goal_cycle import GoalCycle
from etude.culture.layout import Layout
from etude.culture.routes import STAY


@dataclass(frozen=True)
class Slow(Expert):
    """Do as another does, but stay where one is in some steps.

    Attributes:
        of: the other.
        wait: chance to stay in a step.
    """

    of: Expert = field(default_factory=Shortest)
    wait: float = 0.5

    def check(self) -> None:
        if not 0 <= self.wait <= 1:
            raise UsageError(f"wait = {self.wait:g}: give a chance, from 0 to 1")

    def act(self, game: GoalCycle, player: int, draw: np.random.Generator) -> Int[np.ndarray, " B"]:
        actions = self.of.act(game, player, draw)
        return np.where(draw.random(game.worlds) < self.wait, STAY, actions)

    def layouts(self) -> Layout | None:
        return self.of.layouts()
