"""Proximal policy optimisation with a clipped ratio (Schulman et al. 2017, arXiv 1707.06347)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from etude.culture.algorithms.base import Algorithm

if TYPE_CHECKING:
    from etude.culture.learners.environments import Environments
    from etude.culture.learners.learner import Learner


@dataclass(frozen=True)
class Ppo(Algorithm):
    """An actor-critic that learns several times from what it has played, no further than the clip from the policy that
    played it.

    Attributes:
        environments: how many are played side by side.
        horizon: steps in each between two rounds of learning.
        epochs: times that each step is learned from.
        batch: steps in an update.
        clip: how far the ratio of an action's probabilities, after and before, may pull.
        rate: Adam's learning rate at the first step; it falls to 0 along a straight line.
        discount: gamma.
        decay: lambda of the advantages.
        curiosity: weight of the policy's entropy, in nats.
        width: of the two hidden layers, of policy and critic each.
    """

    environments: int = 8
    horizon: int = 64
    epochs: int = 8
    batch: int = 128
    clip: float = 0.2
    rate: float = 1e-3
    discount: float = 0.99
    decay: float = 0.95
    curiosity: float = 0.01
    width: int = 64

    rung: ClassVar[int] = 3
    label: ClassVar[str] = "PPO"
    adds: ClassVar[str] = (
        "learns several times from the same steps, and clips what would take the policy too far from them"
    )
    source: ClassVar[str] = "Schulman et al. 2017, equation 7"

    def learner(self, environments: Environments, steps: int, seed: int) -> Learner:
        from etude.culture.learners.ppo import PpoLearner

        return PpoLearner(self, environments, steps, seed)
