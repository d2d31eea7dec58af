"""What is played, as plain data: the worlds, how many goals stand in them, and how long an episode is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from etude.core.errors import UsageError
from etude.core.spec import Spec
from etude.culture.layout import Layout, draw_layout
from etude.culture.worlds.base import World
from etude.culture.worlds.open import Open

OPEN = Open()


@dataclass(frozen=True)
class Setting(Spec):
    """The worlds of an episode.

    Attributes:
        world: where walls stand.
        goals: how many there are in a world.
        colours: how many colours goals may have; 0 is as many as there are goals.
        steps: of an episode.
    """

    world: World = OPEN
    goals: int = 3
    colours: int = 0
    steps: int = 50

    def check(self) -> None:
        if self.steps < 1:
            raise UsageError(f"steps = {self.steps}: an episode has 1 step or more")
        if not 2 <= self.goals <= (self.colours or self.goals):
            raise UsageError(f"goals = {self.goals} of {self.colours} colours: give 2 or more, and as many colours")

    @property
    def width(self) -> int:
        """G, the number of colours."""
        return self.colours or self.goals

    def draw(self, worlds: int, draw: np.random.Generator, players: int = 2, *, beside: bool = False) -> Layout:
        """Draw so many worlds; `beside` has all players begin in one cell.

        Raises:
            UsageError: they have no room for the goals, or too few can be played.
        """
        return draw_layout(self.world, self.goals, worlds, draw, colours=self.colours, players=players, beside=beside)
