"""GoalCycle for PettingZoo: one world whose players are all agents. Each sees every other, and none knows the order."""

from __future__ import annotations

from typing import Any

import numpy as np

from etude.core.errors import UsageError
from etude.culture.goal_cycle import GoalCycle
from etude.culture.routes import ACTIONS
from etude.culture.setting import Setting
from etude.culture.views.base import View
from etude.culture.views.compact import Compact

try:
    from gymnasium.spaces import Box, Discrete, Space
    from pettingzoo import ParallelEnv
except ModuleNotFoundError:
    raise UsageError("etude.culture.petting_zoo needs gymnasium and pettingzoo: pip install 'etude[rl]'") from None


class GoalCycleParallelEnv(ParallelEnv[str, np.ndarray, Any]):
    """One world. Episodes are cut off after the setting's steps and have no other end.

    Args:
        players: how many, all of them agents.
        setting: the worlds, and how long an episode is.
        view: what each player sees.

    Raises:
        UsageError: there are no players.
    """

    def __init__(self, players: int = 2, *, setting: Setting | None = None, view: View | None = None) -> None:
        if players < 1:
            raise UsageError(f"players = {players}: give 1 or more")
        self.setting, self.view = setting or Setting(), view or Compact()
        self.possible_agents = [f"player_{number}" for number in range(players)]
        self.agents: list[str] = []
        self.render_mode = None
        self.metadata = {"name": "goal_cycle_v0", "render_modes": []}
        width = self.view.width(self.setting.width, players)
        self._sees, self._acts = Box(-1.0, 1.0, (width,), np.float32), Discrete(ACTIONS)
        self._draw = np.random.default_rng()
        self.game: GoalCycle | None = None

    def observation_space(self, agent: str) -> Space[np.ndarray]:
        return self._sees

    def action_space(self, agent: str) -> Space[Any]:
        return self._acts

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
        if seed is not None:
            self._draw = np.random.default_rng(seed)
        self.agents = list(self.possible_agents)
        self.game = GoalCycle(self.setting.draw(1, self._draw, players=len(self.agents)), self.setting.steps)
        return self._seen(self.game), {agent: {} for agent in self.agents}

    def step(
        self, actions: dict[str, int]
    ) -> tuple[dict[str, np.ndarray], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        if self.game is None or not self.agents:
            raise UsageError("the world was not begun, or its episode is over: call reset first")
        entered = self.game.step(np.array([[int(actions[agent]) for agent in self.agents]]))[0]
        over, agents = self.game.steps >= self.setting.steps, self.agents
        seen = self._seen(self.game)
        if over:
            self.agents = []
        rewards = {agent: float(count) for agent, count in zip(agents, entered, strict=True)}
        return seen, rewards, dict.fromkeys(agents, False), dict.fromkeys(agents, over), {agent: {} for agent in agents}

    def _seen(self, game: GoalCycle) -> dict[str, np.ndarray]:
        everybody = np.ones((1, game.players), bool)
        return {agent: self.view.see(game, number, everybody)[0] for number, agent in enumerate(self.possible_agents)}
