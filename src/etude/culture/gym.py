"""GoalCycle for Gymnasium: a vector of worlds that step together, and one world alone.

    import gymnasium
    envs = gymnasium.make_vec("etude.culture.gym:etude/GoalCycle-v0", num_envs=1024)

Episodes are cut off after the setting's steps and have no other end. Not covered: rendering (`etude.culture.drawing`),
and options of `reset`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from etude.core.errors import UsageError
from etude.culture.experts.base import Expert
from etude.culture.playing import Episode, Played
from etude.culture.presence import Presence
from etude.culture.routes import ACTIONS
from etude.culture.setting import Setting
from etude.culture.views.base import View

try:
    import gymnasium
    from gymnasium.spaces import Box, Discrete
    from gymnasium.vector import AutoresetMode, VectorEnv
    from gymnasium.vector.utils import batch_space
except ModuleNotFoundError:
    raise UsageError("etude.culture.gym needs gymnasium: pip install 'etude[rl]'") from None

Observations = np.ndarray
"""[B W]; [W] where there is one world."""


def _played(setting: Setting | None, expert: Expert | None, presence: Presence | None, view: View | None) -> Played:
    chosen = {"setting": setting, "expert": expert, "presence": presence, "view": view}
    return Played(**{name: value for name, value in chosen.items() if value is not None})


class GoalCycleVectorEnv(VectorEnv[Observations, np.ndarray, np.ndarray]):
    """B worlds that begin and end together. The step after the last one begins the next episodes, whatever the actions
    (`AutoresetMode.NEXT_STEP`), and is worth 0.

    Args:
        num_envs: B.
        setting: the worlds, and how long an episode is.
        expert: the other player; by default the shortest ways.
        presence: when it is seen.
        view: what the learner sees.
    """

    def __init__(
        self,
        num_envs: int = 16,
        *,
        setting: Setting | None = None,
        expert: Expert | None = None,
        presence: Presence | None = None,
        view: View | None = None,
    ) -> None:
        if num_envs < 1:
            raise UsageError(f"num_envs = {num_envs}: give 1 or more")
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP, "render_modes": []}
        self.num_envs = num_envs
        self.what = _played(setting, expert, presence, view)
        self.single_action_space = Discrete(ACTIONS)
        self.single_observation_space = Box(-1.0, 1.0, (self.what.width,), np.float32)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.episode: Episode | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode = Episode(self.what, self.num_envs, self.np_random)
        return self.episode.see(), {}

    def step(self, actions: np.ndarray) -> tuple[Observations, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        if self.episode is None:
            raise UsageError("the worlds were not begun: call reset first")
        no = np.zeros(self.num_envs, bool)
        if self.episode.is_over:
            seen, _ = self.reset()
            return seen, np.zeros(self.num_envs), no, no.copy(), {}
        rewards = self.episode.step(np.asarray(actions)).astype(np.float64)
        return self.episode.see(), rewards, no, np.full(self.num_envs, self.episode.is_over), {}


class GoalCycleEnv(gymnasium.Env[Observations, Any]):
    """One world.

    Args:
        setting: the worlds, and how long an episode is.
        expert: the other player; by default the shortest ways.
        presence: when it is seen.
        view: what the learner sees.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 (Gymnasium's own)

    def __init__(
        self,
        *,
        setting: Setting | None = None,
        expert: Expert | None = None,
        presence: Presence | None = None,
        view: View | None = None,
    ) -> None:
        self.what = _played(setting, expert, presence, view)
        self.action_space = Discrete(ACTIONS)
        self.observation_space = Box(-1.0, 1.0, (self.what.width,), np.float32)
        self.episode: Episode | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode = Episode(self.what, 1, self.np_random)
        return self.episode.see()[0], {}

    def step(self, action: Any) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        if self.episode is None or self.episode.is_over:
            raise UsageError("the world was not begun, or its episode is over: call reset first")
        reward = float(self.episode.step(np.array([int(action)]))[0])
        return self.episode.see()[0], reward, False, self.episode.is_over, {}


gymnasium.register(
    "etude/GoalCycle-v0",
    entry_point="etude.culture.gym:GoalCycleEnv",
    vector_entry_point="etude.culture.gym:GoalCycleVectorEnv",
)
