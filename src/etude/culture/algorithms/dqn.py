"""Deep Q-learning (Mnih et al. 2015, "Human-level control through deep reinforcement learning")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from etude.culture.algorithms.base import Algorithm

if TYPE_CHECKING:
    from etude.culture.learners.environments import Environments
    from etude.culture.learners.learner import Learner


@dataclass(frozen=True)
class Dqn(Algorithm):
    """Learn what each action is worth, from steps drawn out of a memory, against a copy of itself that lags behind.

    Attributes:
        memory: steps that are remembered; the oldest is overwritten.
        start: steps that are played before the first update.
        every: steps between two updates.
        batch: steps drawn for an update.
        lag: steps between two copies of the network to the target.
        explored: share of the actions drawn at random in the end. With more of it, what is evaluated greedily goes
            where it has never been.
        exploring: share of all steps over which it falls from 1 to that, along a straight line.
        rate: Adam's learning rate at the first step; it falls to 0 along a straight line.
        discount: gamma.
        width: of the two hidden layers.
    """

    memory: int = 50_000
    start: int = 1000
    every: int = 4
    batch: int = 128
    lag: int = 500
    explored: float = 0.01
    exploring: float = 0.2
    rate: float = 1e-3
    discount: float = 0.99
    width: int = 64

    rung: ClassVar[int] = 4
    label: ClassVar[str] = "DQN"
    adds: ClassVar[str] = (
        "has no policy to draw from: it learns what each action is worth, and from old steps too, since these need not"
        " be its present policy's"
    )
    source: ClassVar[str] = "Mnih et al. 2015, algorithm 1"

    def learner(self, environments: Environments, steps: int, seed: int) -> Learner:
        from etude.culture.learners.dqn import DqnLearner

        return DqnLearner(self, environments, steps, seed)
