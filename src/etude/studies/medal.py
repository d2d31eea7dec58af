"""MEDAL-ADR: which ingredients make an agent learn from another, and remember when it has gone?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.culture.experts.anti import Anti
from etude.culture.experts.base import Expert
from etude.culture.experts.noisy import Noisy
from etude.culture.experts.slow import Slow
from etude.culture.memories.without import Without
from etude.culture.presence import Presence
from etude.culture.randomisation import Randomise, Range
from etude.culture.recipes import Raise, SocialNeurons, Transmission
from etude.culture.setting import Setting
from etude.culture.worlds.obstacles import Obstacles
from etude.report.blocks import Report
from etude.studies.base import Study

RANGES = (
    Range("setting.world.share", 0.0, 0.15, 0.05),
    Range("setting.world.slow", 0.0, 0.15, 0.05),
    Range("expert.wait", 0.0, 0.3, 0.1),
    Range("expert.of.chance", 0.0, 0.2, 0.05),
)
"""What is randomised: obstacles, slow ground, and how often the expert waits or errs."""

WHOLE = "MEDAL-ADR"
FIXED = "without randomisation"
PLAIN = "plain randomisation"
FORGETFUL = "without memory"
ALWAYS = "without expert dropout"
BLIND = "without attention loss"

AGENTS: Mapping[str, Mapping[str, Any]] = {
    WHOLE: {},
    FORGETFUL: {"memory": Without()},
    ALWAYS: {"presence": Presence()},
    BLIND: {"attention": 0.0},
    FIXED: {"randomise": None},
    PLAIN: {"randomise": Randomise(how="plain", ranges=RANGES)},
}
"""The agents that are compared, and what differs in the recipe of each from the first's."""


@dataclass(frozen=True)
class Medal(Study):
    """Which ingredients of MEDAL-ADR make an agent follow an expert, and remember what it saw when the expert has gone?

    An agent with all four (memory, expert dropout, attention loss, automatic domain randomisation; arXiv 2203.00715,
    section 3) is raised in GoalCycle beside agents without each, and one with plain domain randomisation, from several
    seeds each. What they keep in the second half of an episode, after the expert left, is held against the same agent
    with its memory emptied, and against being alone.

    Attributes:
        goals: how many, in the worlds of each comparison.
        updates: of each raising, for each number of goals.
        colours: that goals may have.
        worlds: of an update.
        steps: of an episode.
        width: of the agents.
        seeds: trainings of each agent.
        measured: worlds in which each is measured.
        probes: worlds of each type of probe.
        episodes: of each probe.
        neurons: worlds in which social neurons are looked for, in the first training of the whole agent and of those
            without attention loss and without expert dropout; 0 does not look.
        seed: of the first training.
    """

    version: ClassVar[int] = 2  # 2: probes lie beyond what randomisation reaches

    goals: tuple[int, ...] = (3, 4)
    updates: tuple[int, ...] = (500, 1000)
    colours: int = 4
    worlds: int = 256
    steps: int = 100
    width: int = 64
    seeds: int = 3
    measured: int = 512
    probes: int = 10
    episodes: int = 20
    neurons: int = 256
    seed: int = 0

    def check(self) -> None:
        if not self.goals or len(self.goals) != len(self.updates) or len(set(self.goals)) < len(self.goals):
            raise UsageError(
                f"goals = {self.goals}, updates = {self.updates}: give one number of updates for each number of goals"
            )
        if self.seeds < 1 or min(self.updates) < 1 or self.neurons < 0:
            raise UsageError(
                f"seeds = {self.seeds}, updates = {self.updates}, neurons = {self.neurons}: give 1 or more, and 0 or"
                " more worlds for neurons"
            )
        for goals in self.goals:  # which check the rest
            _ = self.transmission(goals, WHOLE, 0), [probe for _, probe in self.probed(goals, WHOLE, 0)]

    def agent(self, goals: int, name: str, number: int) -> Raise:
        """Return one of `AGENTS`, with the seed of that number."""
        updates = dict(zip(self.goals, self.updates, strict=True))[goals]
        whole = Raise(
            setting=self.setting(goals),
            expert=Slow(of=Noisy(chance=0.0), wait=0.0),
            randomise=Randomise(ranges=RANGES),
            width=self.width,
            worlds=self.worlds,
            updates=updates,
            evaluate_every=min(50, updates),
            evaluate_worlds=128,
            seed=self.seed + number,
        )
        return replace(whole, **AGENTS[name]).settle()

    def setting(self, goals: int, share: float = 0.0, slow: float = 0.0) -> Setting:
        """Return worlds of so many goals, with obstacles and slow ground on a share of the cells."""
        return Setting(world=Obstacles(share=share, slow=slow), goals=goals, colours=self.colours, steps=self.steps)

    def transmission(self, goals: int, name: str, number: int) -> Transmission:
        """Return what is measured of an agent in empty worlds with an expert that never errs."""
        return Transmission(self.agent(goals, name, number), worlds=self.measured)

    def probed(self, goals: int, name: str, number: int) -> list[tuple[str, Transmission]]:
        """Return the probes of an agent, by type: harder worlds and experts than any was raised with, and other numbers
        of goals."""
        agent = self.agent(goals, name, number)
        halting = Slow(of=Noisy(chance=0.3), wait=0.5)
        hard = self.setting(goals, 0.25, 0.25)
        played: dict[str, tuple[Setting, Expert]] = {
            "obstacles and slow ground": (hard, agent.expert),
            "an expert that waits and errs": (self.setting(goals), halting),
            "both": (hard, halting),
            **{
                f"{other} goals": (self.setting(other), agent.expert)
                for other in range(2, self.colours + 1)
                if other != goals
            },
        }
        return [
            (kind, Transmission(agent, setting=setting, expert=expert, worlds=self.probes, episodes=self.episodes))
            for kind, (setting, expert) in played.items()
        ]

    def misled(self, goals: int, name: str, number: int) -> Transmission:
        """Return what is measured of an agent beside an expert that goes the wrong way round."""
        return Transmission(self.agent(goals, name, number), expert=Anti(), worlds=self.measured)

    @property
    def with_neurons(self) -> tuple[str, ...]:
        """The agents in which social neurons are looked for."""
        return (WHOLE, BLIND, ALWAYS) if self.neurons else ()

    def social(self, goals: int, name: str) -> SocialNeurons:
        """Return the search for social neurons in the first training of an agent."""
        return SocialNeurons(self.agent(goals, name, 0), worlds=self.neurons)

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        wanted: list[Recipe] = []
        for goals in self.goals:
            for number in range(self.seeds):
                for name in AGENTS:
                    wanted += [self.agent(goals, name, number), self.transmission(goals, name, number)]
                for name in (WHOLE, FIXED, PLAIN):
                    wanted += [probe for _, probe in self.probed(goals, name, number)]
                wanted += [self.misled(goals, name, number) for name in (WHOLE, ALWAYS)]
            wanted += [self.social(goals, name) for name in self.with_neurons]
        return wanted

    def answer(self, done: Mapping[Recipe, Run]) -> dict[str, Any]:
        from etude.studies.sections.medal_numbers import numbers

        return numbers(self, done)

    def tell(self, done: Mapping[Recipe, Run]) -> Report:
        from etude.studies.sections.medal_page import page

        return page(self, done)
