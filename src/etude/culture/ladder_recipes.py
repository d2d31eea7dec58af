"""Recipes of the ladder: one algorithm of reinforcement learning, let loose in one environment."""

from __future__ import annotations

from dataclasses import dataclass, field

from etude.core.errors import UsageError
from etude.core.recipe import Estimate, Recipe
from etude.culture.algorithms.base import Algorithm
from etude.culture.algorithms.ppo import Ppo


@dataclass(frozen=True)
class Climb(Recipe, kind="climb", does="etude.culture.ladder_work:climb"):
    """Have an algorithm learn to act in an environment of Gymnasium's, and evaluate what it has learned.

    It is evaluated as it is after the last step, on episodes that it has not played, by the action that it thinks best:
    a policy's likeliest, or the one worth most. A uniformly random policy plays the same episodes for comparison.

    Attributes:
        environment: Gymnasium's id, with options of its own behind colons: `FrozenLake-v1:is_slippery=false`, or
            `CliffWalking-v1:max_episode_steps=200`. Actions are discrete, observations a box or discrete; the latter
            are one-hot.
        algorithm: what learns.
        steps: steps in the environment, in all copies of it together.
        episodes: fresh episodes of the evaluation.
        seed: of the weights, of what is drawn and of the episodes.
    """

    environment: str = "CartPole-v1"
    algorithm: Algorithm = field(default_factory=Ppo)
    steps: int = 200_000
    episodes: int = 100
    seed: int = 0

    def check(self) -> None:
        if self.steps < self.algorithm.beside or self.episodes < 1:
            raise UsageError(
                f"steps = {self.steps}, episodes = {self.episodes}: give"
                f" {self.algorithm.beside} steps or more, and an episode or more"
            )

    @property
    def rounds(self) -> int:
        """Steps in each copy of the environment."""
        return self.steps // self.algorithm.beside

    def estimate(self) -> Estimate:
        held = getattr(self.algorithm, "memory", 4096)
        return Estimate(disk_bytes=1_000_000 + 3 * 4 * held * 100)
