"""Follow: does predicting where an expert is make an agent follow it?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.culture.recipes import Raise, Transmission
from etude.culture.setting import Setting
from etude.culture.worlds.obstacles import Obstacles
from etude.culture.worlds.open import Open
from etude.culture.worlds.rooms import Rooms
from etude.report.blocks import Report
from etude.studies.base import Study

PROBES = {
    "empty": Open(),
    "obstacles and slow ground": Obstacles(share=0.15, slow=0.15),
    "rooms of a larger world": Rooms(),
}
"""Worlds in which agents that were raised in empty ones are probed."""


@dataclass(frozen=True)
class Follow(Study):
    """Does an agent that predicts where its expert is learn to follow it, and sooner than one that does not?

    Agents play GoalCycle beside an expert, with the attention loss of MEDAL (arXiv 2203.00715, section 3.3) and without
    it, from several seeds; all else is the same. Then both play probes: types of worlds and numbers of goals, most of
    which they have not been raised in.

    Attributes:
        goals: in the worlds in which they are raised.
        colours: that goals may have, so that probes may have as many goals.
        attention: weight of the attention loss.
        updates: of each raising.
        worlds: of an update.
        steps: of an episode.
        width: of the agents.
        seeds: trainings of each.
        measured: worlds in which the agents are measured at the end.
        probes: worlds of each type of probe.
        episodes: of each probe.
        seed: of the first training.
    """

    goals: int = 4
    colours: int = 5
    attention: float = 1.0
    updates: int = 320
    worlds: int = 256
    steps: int = 100
    width: int = 64
    seeds: int = 3
    measured: int = 512
    probes: int = 10
    episodes: int = 20
    seed: int = 0

    def check(self) -> None:
        if self.attention <= 0:
            raise UsageError(f"attention = {self.attention:g}: the study compares a weight above 0 with 0")
        if self.seeds < 1 or self.updates < 1:
            raise UsageError(f"seeds = {self.seeds}, updates = {self.updates}: give 1 or more of each")
        _ = [self.transmission(True, 0), *(probe for _, _, probe in self.probed(True, 0))]  # which check the rest

    def agent(self, attends: bool, number: int) -> Raise:
        """Return the agent with the attention loss or without it, with the seed of that number."""
        return Raise(
            setting=Setting(goals=self.goals, colours=self.colours, steps=self.steps),
            attention=self.attention if attends else 0.0,
            width=self.width,
            worlds=self.worlds,
            updates=self.updates,
            evaluate_every=max(1, self.updates // 16),
            evaluate_worlds=128,
            seed=self.seed + number,
        ).settle()

    def transmission(self, attends: bool, number: int) -> Transmission:
        """Return what is measured of an agent in worlds like those in which it was raised."""
        return Transmission(self.agent(attends, number), worlds=self.measured)

    def probed(self, attends: bool, number: int) -> list[tuple[str, int, Transmission]]:
        """Return the probes of an agent: type of world, number of goals, and what is measured."""
        agent = self.agent(attends, number)
        return [
            (
                name,
                goals,
                Transmission(
                    agent,
                    setting=Setting(world=world, goals=goals, colours=self.colours, steps=self.steps),
                    worlds=self.probes,
                    episodes=self.episodes,
                ),
            )
            for name, world in PROBES.items()
            for goals in range(max(2, self.goals - 1), self.colours + 1)
        ]

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        wanted: list[Recipe] = []
        for number in range(self.seeds):
            for attends in (True, False):
                wanted += [self.agent(attends, number), self.transmission(attends, number)]
                wanted += [probe for _, _, probe in self.probed(attends, number)]
        return wanted

    def answer(self, done: Mapping[Recipe, Run]) -> dict[str, Any]:
        from etude.studies.sections.follow_page import numbers

        return numbers(self, done)

    def tell(self, done: Mapping[Recipe, Run]) -> Report:
        from etude.studies.sections.follow_page import page

        return page(self, done)
