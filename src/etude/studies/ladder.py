"""The ladder of reinforcement learning: four algorithms, each one step from the last, in the same environments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from etude.core.errors import UsageError
from etude.core.family import Family
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.culture.algorithms.base import Algorithm
from etude.culture.ladder_recipes import Climb
from etude.report.blocks import Report
from etude.studies.base import Study


@dataclass(frozen=True)
class Ladder(Study):
    """How far does each step of the ladder carry: REINFORCE, A2C, PPO and DQN, in the same environments?

    Each learns for as many steps in the environment, with its own default settings and from several seeds, and is then
    evaluated on fresh episodes, beside a uniformly random policy. The settings were chosen on CartPole-v1 with seeds 0
    to 2; the study begins with another.

    Attributes:
        environments: Gymnasium's ids, with options behind colons, as `etude run climb` takes them.
        algorithms: by name.
        steps: steps in the environment, of each training.
        seeds: trainings of each algorithm in each environment.
        episodes: fresh episodes that each is evaluated on.
        seed: of the first training.
    """

    environments: tuple[str, ...] = ("CartPole-v1", "FrozenLake-v1:is_slippery=false")
    algorithms: tuple[str, ...] = ("reinforce", "a2c", "ppo", "dqn")
    steps: int = 200_000
    seeds: int = 3
    episodes: int = 100
    seed: int = 3

    def check(self) -> None:
        for name in ("environments", "algorithms"):
            given = getattr(self, name)
            if not given or len(set(given)) < len(given):
                raise UsageError(f"{name} = {', '.join(given)}: give one or more, each once")
        if self.seeds < 1:
            raise UsageError(f"seeds = {self.seeds} is too small: it is 1 or more")
        for algorithm in self.algorithms:
            self.climb(self.environments[0], algorithm, 0)

    def member(self, algorithm: str) -> Algorithm:
        """Return an algorithm with its default settings."""
        return cast(Algorithm, Family("culture/algorithms").member(algorithm)())

    def climb(self, environment: str, algorithm: str, number: int) -> Climb:
        """Return a training, with the seed of that number."""
        return Climb(environment, self.member(algorithm), self.steps, self.episodes, self.seed + number)

    def climbs(self, environment: str, algorithm: str) -> tuple[Climb, ...]:
        """Return the trainings of an algorithm in an environment."""
        return tuple(self.climb(environment, algorithm, n) for n in range(self.seeds))

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return [
            climb
            for environment in self.environments
            for algorithm in self.algorithms
            for climb in self.climbs(environment, algorithm)
        ]

    def answer(self, done: Mapping[Recipe, Run]) -> dict[str, Any]:
        from etude.studies.sections.climb_page import numbers

        return numbers(self, done)

    def tell(self, done: Mapping[Recipe, Run]) -> Report:
        from etude.studies.sections.climb_page import page

        return page(self, done)
