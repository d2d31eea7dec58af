"""Episodes of a setting under way, one after another, for whoever brings the learner: the adapters stand on this."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from etude.culture.experts.base import Expert
from etude.culture.experts.shortest import Shortest
from etude.culture.goal_cycle import GoalCycle
from etude.culture.layout import Layout
from etude.culture.presence import Presence
from etude.culture.setting import Setting
from etude.culture.views.base import View
from etude.culture.views.compact import Compact


@dataclass(frozen=True)
class Played:
    """What is played.

    Attributes:
        setting: the worlds, and how long an episode is.
        expert: the other player; by default the shortest ways.
        presence: when it is seen.
        view: what the learner sees.
    """

    setting: Setting = field(default_factory=Setting)
    expert: Expert | None = None
    presence: Presence = field(default_factory=Presence)
    view: View = field(default_factory=Compact)

    @property
    def partner(self) -> Expert:
        """The other player."""
        return self.expert or Shortest()

    @property
    def width(self) -> int:
        """W, numbers in an observation."""
        return self.view.width(self.setting.width, 2)

    def worlds(self, count: int, draw: np.random.Generator) -> Layout:
        """Draw worlds: the setting's, or those that the expert alone can play."""
        own = self.partner.layouts()
        if own is None:
            return self.setting.draw(count, draw)
        return own[draw.integers(0, len(own), count)].in_colours(self.setting.width)


class Episode:
    """One episode in B worlds. The learner is player 0, and the expert player 1."""

    def __init__(self, what: Played, worlds: int, draw: np.random.Generator) -> None:
        self.what, self.draw, self.partner = what, draw, what.partner
        self.game = GoalCycle(what.worlds(worlds, draw), what.setting.steps)
        self.seen = what.presence.mask(what.setting.steps, worlds, draw)

    @property
    def is_over(self) -> bool:
        return self.game.steps >= self.what.setting.steps

    def see(self) -> Float[np.ndarray, "B W"]:
        """Return what the learner sees now."""
        present = np.ones((self.game.worlds, 2), bool)
        present[:, 1] = self.seen[min(self.game.steps, len(self.seen) - 1)]
        return self.what.view.see(self.game, 0, present)

    def step(self, actions: Int[np.ndarray, " B"]) -> Int[np.ndarray, " B"]:
        """Move both and return what the learner entered."""
        both = np.stack([actions, self.partner.act(self.game, 1, self.draw)], axis=1)
        return self.game.step(both)[:, 0]
