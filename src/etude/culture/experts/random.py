"""A player that knows nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from etude.culture.experts.base import Expert
from etude.culture.goal_cycle import GoalCycle
from etude.culture.routes import ACTIONS


@dataclass(frozen=True)
class Random(Expert):
    """Do any of the actions, each as likely as another."""

    def act(self, game: GoalCycle, player: int, draw: np.random.Generator) -> Int[np.ndarray, " B"]:
        return draw.integers(0, ACTIONS, game.worlds)
