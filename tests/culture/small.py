"""A raising so small that a test can do it, and the same changed."""

from __future__ import annotations

from typing import Any

import numpy as np

from etude.culture.agent import Agent
from etude.culture.curriculum import Curriculum
from etude.culture.episodes import Episodes, play
from etude.culture.presence import Presence
from etude.culture.raising import new_agent
from etude.culture.recipes import Raise
from etude.culture.rules.ppo import Ppo
from etude.culture.setting import Setting
from etude.culture.worlds.open import Open

SETTING = Setting(Open(size=3), goals=2, steps=9)
EARLY = Curriculum(absent_from=0.0, memory=3)
MIXED = Presence(full=1, half=1, flicker=1, on=3, off=2)


def small(**fields: Any) -> Raise:
    """Return a raising of a few updates."""
    given: dict[str, Any] = {
        "setting": SETTING,
        "presence": MIXED,
        "curriculum": EARLY,
        "rule": Ppo(minibatches=2),
        "width": 8,
        "worlds": 8,
        "updates": 4,
        "evaluate_every": 2,
        "evaluate_worlds": 4,
        "log_every": 1,
    }
    return Raise(**{**given, **fields})


def played(recipe: Raise, agent: Agent | None = None, worlds: int = 8, seed: int = 0, **how: Any) -> Episodes:
    """Return episodes of an agent, or of the recipe's untrained one."""
    draw = np.random.default_rng(seed)
    layout = recipe.setting.draw(worlds, draw)
    present = recipe.presence.mask(recipe.setting.steps, worlds, draw)
    return play(agent or new_agent(recipe), layout, recipe.expert, recipe.view, present, draw, **how)
