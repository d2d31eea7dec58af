"""Recipes of culture: an agent raised beside an expert, and what is measured of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from etude.core.errors import UsageError
from etude.core.recipe import Estimate, Recipe
from etude.core.run import Run
from etude.core.spec import AUTO, cosmetic
from etude.core.within import changed
from etude.culture.curriculum import Curriculum
from etude.culture.experts.base import Expert
from etude.culture.experts.shortest import Shortest
from etude.culture.memories.base import Memory
from etude.culture.memories.gru import Gru
from etude.culture.presence import Presence
from etude.culture.randomisation import Randomise
from etude.culture.rules.base import Rule
from etude.culture.rules.ppo import Ppo
from etude.culture.setting import Setting
from etude.culture.views.base import View
from etude.culture.views.compact import Compact

PLAYED = ("setting", "expert", "presence")
"""The fields of a raising that may differ from update to update."""


@dataclass(frozen=True)
class Raise(Recipe, kind="raise", does="etude.culture.work:raise_agent"):
    """Raise an agent beside an expert, by reinforcement learning from scratch: MEDAL-ADR (arXiv 2203.00715), each of
    whose ingredients is a field. Memory is `memory`, Expert Dropout is `presence`, the Attention Loss is `attention`,
    and Automatic Domain Randomisation is `randomise`.

    Attributes:
        setting: the worlds, and how long an episode is.
        expert: whom it sees.
        presence: when, once it follows (`curriculum.absent_from`).
        view: what it sees.
        memory: what it keeps of what it saw.
        width: of the agent.
        attention: weight of the attention loss, the L1 distance between where it thinks the expert is, relative to
            itself, and where it is, while it can be seen; 0 is without.
        rule: how it learns from what it did.
        curriculum: how training becomes harder.
        randomise: what differs from update to update.
        worlds: episodes of an update, over all processes together.
        updates: how many. 0 gives the untrained agent.
        evaluate_every: updates between evaluations, which are in the record; 0 is before and after alone.
        evaluate_worlds: worlds of each, the same every time.
        keep_every: updates between agents that are kept; 0 keeps the last alone.
        ranks: processes that `torchrun` started, each with its own worlds; so many draw other worlds than one does.
        seed: of the weights, the worlds and all that is drawn.
    """

    together = True

    setting: Setting = field(default_factory=lambda: Setting(goals=4, steps=100))
    expert: Expert = field(default_factory=Shortest)
    presence: Presence = field(default_factory=lambda: Presence(full=0.3, half=0.3, flicker=0.4))
    view: View = field(default_factory=Compact)
    memory: Memory = field(default_factory=Gru)
    width: int = 64
    attention: float = 1.0
    rule: Rule = field(default_factory=Ppo)
    curriculum: Curriculum = field(default_factory=Curriculum)
    randomise: Randomise | None = None
    worlds: int = 256
    updates: int = 800
    evaluate_every: int = 50
    evaluate_worlds: int = 256
    keep_every: int = 0
    ranks: int | Literal["auto"] = AUTO
    seed: int = 0
    log_every: int = cosmetic(10)

    def check(self) -> None:
        if self.worlds < 1 or self.updates < 0 or self.width < 1 or self.evaluate_worlds < 2 or self.attention < 0:
            raise UsageError(
                f"worlds = {self.worlds}, updates = {self.updates}, width = {self.width}, evaluate_worlds ="
                f" {self.evaluate_worlds}, attention = {self.attention:g}: give a world, a width of 1, 2 worlds for"
                " evaluations, and no updates and no attention at the least"
            )
        if self.evaluate_every < 0 or self.keep_every < 0:
            raise UsageError(
                f"evaluate_every = {self.evaluate_every}, keep_every = {self.keep_every}: give updates, or 0 for none"
            )
        if self.ranks != AUTO and (self.ranks < 1 or self.worlds % (self.ranks * self.rule.minibatches)):
            raise UsageError(
                f"worlds = {self.worlds} cannot be shared out over {self.ranks} processes in {self.rule.minibatches}"
                " minibatches each: give a multiple"
            )
        if self.randomise is not None and self.expert.layouts() is not None:
            raise UsageError("an expert that plays recorded worlds cannot be randomised: leave randomise out")
        for each in self.randomise.ranges if self.randomise else ():
            if each.path[0] not in PLAYED:
                raise UsageError(f"{each.field} is nothing that is played: randomise a field of {', '.join(PLAYED)}")
            for end in (each.first, each.last):
                changed(self.bare(), {each.path: end})

    def settle(self) -> Raise:
        from etude.core.world import world

        return replace(self, ranks=world().size) if self.ranks == AUTO else self

    def require_kept(self, update: int) -> None:
        """Refuse an update after which the agent is not kept. 0 is the last.

        Raises:
            UsageError: it is none of `keep_every`'s, and not the last.
        """
        kept = bool(self.keep_every) and update % self.keep_every == 0 and 0 < update < self.updates
        if update not in (0, self.updates) and not kept:
            raise UsageError(
                f"update = {update}: an agent is kept every {self.keep_every} of {self.updates} updates (0 is none):"
                " give one of these, or 0 for the last"
            )

    def bare(self) -> Raise:
        """Return this recipe without what is randomised, which is put into its other fields."""
        return replace(self, randomise=None)

    def estimate(self) -> Estimate:
        kept = 1 + (self.updates // self.keep_every if self.keep_every else 0)
        size = 4 * self.width * (16 * self.width + 400)
        return Estimate(disk_bytes=1_000_000 + (kept + 6) * size)


@dataclass(frozen=True)
class Transmission(Recipe, kind="transmission", does="etude.culture.transmission_work:transmission_of"):
    """Measure what an agent has from its expert: scores with the expert all the time, for half of it and never, what
    stays after it has gone, and cultural transmission, which is made of these.

    Every agent plays the same worlds, drawn by the setting and the seed alone.

    Attributes:
        of: the agent.
        update: after which it was kept; 0 is the last.
        setting: other worlds than it was raised in.
        expert: another expert.
        worlds: how many are drawn.
        episodes: of each world, which differ in what the agent draws.
        seed: of the worlds and the draws.
    """

    of: Raise = field(default_factory=Raise)
    update: int = 0
    setting: Setting | None = None
    expert: Expert | None = None
    worlds: int = 512
    episodes: int = 1
    seed: int = 1

    def check(self) -> None:
        if self.worlds < 2 or self.episodes < 1:
            raise UsageError(f"worlds = {self.worlds}, episodes = {self.episodes}: give 2 worlds and 1 episode or more")
        if self.played.setting.width != self.of.setting.width:
            raise UsageError(
                f"the agent was raised to see {self.of.setting.width} colours and the setting has"
                f" {self.played.setting.width}: set --setting.colours {self.of.setting.width}"
            )
        self.of.require_kept(self.update)

    @property
    def played(self) -> Raise:
        """The raising's recipe with the worlds and the expert that are played."""
        held = {"setting": self.setting, "expert": self.expert}
        return replace(self.of.bare(), **{name: each for name, each in held.items() if each is not None})


@dataclass(frozen=True)
class SocialNeurons(Recipe, kind="social-neurons", does="etude.culture.social_work:social_neurons"):
    """Find the units of an agent's memory that tell whether its expert is there, and what it does without each.

    The expert comes and goes at random, so that the time tells nothing of it. Beside what each unit tells stand the
    presence of other worlds, what a clock tells, an expert that leaves at half-time, which confounds presence with
    time, a linear probe of all units, and the agent before any update (after arXiv 2203.00715, which calls such units
    social neurons).

    Attributes:
        of: the agent.
        update: after which it was kept; 0 is the last.
        worlds: in which its units are read, one half to choose thresholds and the other to judge them; and as many
            others in which each unit is ablated.
        seed: of the worlds and the draws.
    """

    of: Raise = field(default_factory=Raise)
    update: int = 0
    worlds: int = 256
    seed: int = 1

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.of, self.untrained)

    def check(self) -> None:
        if self.worlds < 4:
            raise UsageError(f"worlds = {self.worlds}: give 2 to choose thresholds by and 2 to judge them, or more")
        self.of.require_kept(self.update)

    @property
    def untrained(self) -> Raise:
        """The same agent before any update."""
        return replace(self.of, updates=0, keep_every=0)
