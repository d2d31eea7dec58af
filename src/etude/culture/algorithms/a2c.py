"""Advantage actor-critic, the synchronous form of A3C (Mnih et al. 2016, arXiv 1602.01783)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from etude.culture.algorithms.base import Algorithm

if TYPE_CHECKING:
    from etude.culture.learners.environments import Environments
    from etude.culture.learners.learner import Learner


@dataclass(frozen=True)
class A2c(Algorithm):
    """The policy gradient from parts of episodes. A critic says what was to be expected before, and what is to be
    expected after the part.

    Attributes:
        environments: how many are played side by side.
        horizon: steps in each between two updates.
        rate: Adam's learning rate at the first step; it falls to 0 along a straight line.
        discount: gamma.
        decay: lambda of the advantages; 1 takes all the rewards up to the horizon, as the paper does.
        curiosity: weight of the policy's entropy, in nats.
        width: of the two hidden layers, of policy and critic each.
    """

    environments: int = 8
    horizon: int = 16
    rate: float = 2e-3
    discount: float = 0.99
    decay: float = 1.0
    curiosity: float = 0.01
    width: int = 64

    rung: ClassVar[int] = 2
    label: ClassVar[str] = "A2C"
    adds: ClassVar[str] = (
        "weighs by what was better than a critic expected, and need not wait for an episode's end: the critic says what"
        " the rest is worth"
    )
    source: ClassVar[str] = "Mnih et al. 2016, section 4 and algorithm S3"

    def learner(self, environments: Environments, steps: int, seed: int) -> Learner:
        from etude.culture.learners.a2c import A2cLearner

        return A2cLearner(self, environments, steps, seed)
