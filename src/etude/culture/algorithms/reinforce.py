"""REINFORCE: make what was followed by much reward more likely (Williams 1992)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from etude.culture.algorithms.base import Algorithm

if TYPE_CHECKING:
    from etude.culture.learners.environments import Environments
    from etude.culture.learners.learner import Learner


@dataclass(frozen=True)
class Reinforce(Algorithm):
    """The policy gradient from whole episodes. What an action brought is the return that followed it, less the mean of
    the batch, in units of its standard deviation.

    Attributes:
        episodes: whole episodes between two updates.
        rate: Adam's learning rate at the first step; it falls to 0 along a straight line.
        discount: gamma.
        width: of the two hidden layers of the policy.
    """

    episodes: int = 8
    rate: float = 5e-3
    discount: float = 0.99
    width: int = 64

    rung: ClassVar[int] = 1
    label: ClassVar[str] = "REINFORCE"
    adds: ClassVar[str] = "weighs the log-probability of each action by the return that followed it, episode by episode"
    source: ClassVar[str] = "Williams 1992, Theorem 1"

    def learner(self, environments: Environments, steps: int, seed: int) -> Learner:
        from etude.culture.learners.reinforce import ReinforceLearner

        return ReinforceLearner(self, environments, steps, seed)
