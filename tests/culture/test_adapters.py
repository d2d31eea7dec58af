"""The worlds as Gymnasium and PettingZoo want them: their own checkers, and the game beneath."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from etude.core.errors import UsageError
from etude.culture.experts.anti import Anti
from etude.culture.experts.replayed import Replayed
from etude.culture.experts.shortest import Shortest
from etude.culture.layout import Layout
from etude.culture.presence import HALF, NONE, Presence
from etude.culture.recording import Recording
from etude.culture.setting import Setting
from etude.culture.views.local import Local
from etude.culture.worlds.rooms import Rooms

gymnasium = pytest.importorskip("gymnasium", reason="gymnasium is not installed: pip install 'etude[rl]'")
pettingzoo = pytest.importorskip("pettingzoo", reason="pettingzoo is not installed: pip install 'etude[rl]'")

from gymnasium.utils.env_checker import check_env  # noqa: E402
from gymnasium.vector import AutoresetMode, SyncVectorEnv  # noqa: E402

from etude.culture.gym import GoalCycleEnv, GoalCycleVectorEnv  # noqa: E402
from etude.culture.petting_zoo import GoalCycleParallelEnv  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a game of its own, which it imports where there is pygame
    from pettingzoo.test import parallel_api_test, parallel_seed_test

SMALL = Setting(Rooms(slow=0.1), goals=3, colours=4, steps=9)
FLICKER = Presence(full=1, flicker=1, leaves=1, on=3, off=2)


@pytest.mark.parametrize("view", [None, Local(feels=False)])
def test_one_world_passes_gymnasiums_checker(view) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*spec")  # it is made without a registry here
        check_env(GoalCycleEnv(setting=SMALL, presence=FLICKER, view=view), skip_render_check=True)
    made = gymnasium.make("etude.culture.gym:etude/GoalCycle-v0", setting=SMALL, expert=Anti())
    check_env(made.unwrapped, skip_render_check=True)


def test_a_vector_of_one_is_what_gymnasium_makes_of_one_world() -> None:
    fields = {"setting": SMALL, "presence": FLICKER}
    ours = GoalCycleVectorEnv(1, **fields)
    theirs = SyncVectorEnv([lambda: GoalCycleEnv(**fields)])
    assert ours.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP is theirs.metadata["autoreset_mode"]
    assert ours.single_observation_space == theirs.single_observation_space
    assert (ours.action_space, ours.observation_space) == (theirs.action_space, theirs.observation_space)
    for found, wanted in zip(ours.reset(seed=3), theirs.reset(seed=3), strict=True):
        np.testing.assert_array_equal(found, wanted)
    draw = np.random.default_rng(0)
    for step in range(35):  # three episodes and their resets
        actions = draw.integers(0, 5, 1)
        found, wanted = ours.step(actions), theirs.step(actions)
        for x, y in zip(found[:4], wanted[:4], strict=True):
            np.testing.assert_array_equal(x, y)
            assert x.dtype == y.dtype and x.shape == y.shape
        assert found[0] in ours.observation_space
        assert found[3].all() == (step % 10 == 8) and not found[2].any()


def test_a_vector_is_seeded_and_makes_new_arrays() -> None:
    def told(seed: int) -> list[np.ndarray]:
        envs = gymnasium.make_vec(
            "etude.culture.gym:etude/GoalCycle-v0", 32, "vector_entry_point", setting=SMALL, presence=HALF
        )
        found = [envs.reset(seed=seed)[0]]
        envs.action_space.seed(7)
        for _ in range(25):
            found.extend(envs.step(envs.action_space.sample())[:4])
        return found

    one, again, other = told(1), told(1), told(2)
    assert all(np.array_equal(x, y) for x, y in zip(one, again, strict=True))
    assert not np.array_equal(one[0], other[0]) and len({id(x) for x in one}) == len(one)
    assert not np.array_equal(one[0], one[-4]), "the next episode has other worlds"


def test_it_pays_what_the_learner_enters_and_shows_the_expert_while_it_is_there() -> None:
    envs = GoalCycleVectorEnv(64, setting=SMALL, presence=HALF, expert=Shortest())
    seen, _ = envs.reset(seed=0)
    alone = GoalCycleVectorEnv(64, setting=SMALL, presence=NONE, expert=Shortest())
    lonely, _ = alone.reset(seed=0)
    over = np.zeros(64, bool)
    other = slice(16, 23)  # columns, rows, whether it is there and the goal it stands on
    for step in range(9):
        assert (seen[:, 18] == (step < 4)).all() and not lonely[:, other].any()
        assert envs.episode is not None and alone.episode is not None
        actions = Shortest().act(envs.episode.game, 0, np.random.default_rng(0))
        seen, rewards, _, over, _ = envs.step(actions)
        lonely = alone.step(actions)[0]
        np.testing.assert_array_equal(rewards, envs.episode.game.entered[:, 0])
    assert over.all() and envs.episode is not None
    assert (envs.episode.game.last < 4).any()


def test_a_recorded_expert_brings_its_worlds(tmp_path: Path) -> None:
    layout = SMALL.draw(3, np.random.default_rng(0))
    Recording(layout, 1, np.array([[1, 2, 3]] * 3)).save(tmp_path / "x")
    envs = GoalCycleVectorEnv(40, setting=Setting(SMALL.world, 3, 5, 4), expert=Replayed(file=str(tmp_path / "x")))
    envs.reset(seed=0)
    played: Layout = envs.episode.game.layout  # type: ignore[union-attr]
    assert len(np.unique(played.walls, axis=0)) == len(np.unique(layout.walls, axis=0)) and played.goals.shape == (
        40,
        5,
    )
    for _ in range(6):
        envs.step(np.zeros(40, int))


def test_what_cannot_be_played_is_refused() -> None:
    for env in (GoalCycleVectorEnv(2, setting=SMALL), GoalCycleEnv(setting=SMALL)):
        with pytest.raises(UsageError, match="call reset first"):
            env.step(np.zeros(2, int))
    with pytest.raises(UsageError, match=r"^num_envs = 0: give 1 or more$"):
        GoalCycleVectorEnv(0)
    with pytest.raises(UsageError, match=r"^players = 0: give 1 or more$"):
        GoalCycleParallelEnv(0)
    crowded = GoalCycleEnv(setting=Setting(goals=24))
    with pytest.raises(UsageError, match=r"^goals = 24 with 2 starts need more than the 25 cells"):
        crowded.reset()


@pytest.mark.parametrize("players", [1, 2, 4])
def test_players_together_pass_pettingzoos_tests(players: int, capsys: pytest.CaptureFixture[str]) -> None:
    def make() -> GoalCycleParallelEnv:
        return GoalCycleParallelEnv(players, setting=SMALL)

    parallel_api_test(make(), num_cycles=60)
    parallel_seed_test(make, num_cycles=12)
    env = make()
    seen, _ = env.reset(seed=1)
    rows, ended, over = [[1, 2, 3, 4, 0, 1, 2, 3, 4]] * players, {}, {}
    for step in range(9):
        acts = {agent: rows[number][step] for number, agent in enumerate(env.agents)}
        seen, rewards, ended, over, _ = env.step(acts)
        assert env.game is not None and list(rewards.values()) == env.game.entered[0].tolist()
        assert all(seen[agent] in env.observation_space(agent) for agent in seen)
    assert env.agents == [] and all(over.values()) and not any(ended.values())
    with pytest.raises(UsageError, match="call reset first"):
        env.step({})


@pytest.mark.parametrize(
    ("module", "needs"), [("gym", "needs gymnasium"), ("petting_zoo", "needs gymnasium and pettingzoo")]
)
def test_without_the_extra_the_remedy_is_one_line(module: str, needs: str) -> None:
    code = f"import sys; sys.modules['gymnasium'] = None\nimport etude.culture.{module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert last.endswith(f"UsageError: etude.culture.{module} {needs}: pip install 'etude[rl]'")
    quiet = "import sys, etude.culture.playing\nassert not {'gymnasium', 'torch'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", quiet]).returncode == 0
