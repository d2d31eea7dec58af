"""Environments as learners play them: ends and cuts told apart, gone on with exactly, and what cannot be played."""

from __future__ import annotations

import importlib.util
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from etude.core.errors import UsageError
from etude.culture.learners.environments import Environments, made, threshold_of
from etude.train.checkpoint import State, load_state, save_state

LAKE = "FrozenLake-v1:is_slippery=false"


def actions(count: int, choices: int, steps: int, seed: int = 0) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randint(choices, (count,), generator=draw) for _ in range(steps)]


def test_it_plays_as_gymnasium_does():
    """One environment by hand, through the ends of several episodes."""
    ours = Environments("CartPole-v1", 2, seed=7)
    theirs, seen = gymnasium.make("CartPole-v1"), ours.observations[1].numpy()
    begun = again = theirs.reset(seed=seed_of(ours, 1))[0]
    np.testing.assert_array_equal(seen, begun)
    gained, returns = 0.0, []
    for each in actions(2, 2, 120):
        happened = ours.step(each)
        again, reward, terminated, truncated, _ = theirs.step(int(each[1]))
        gained += float(reward)
        np.testing.assert_array_equal(happened.after[1].numpy(), again)
        assert (happened.terminated[1], happened.truncated[1]) == (terminated, truncated)
        if terminated or truncated:
            returns.append(gained)
            gained, again = 0.0, theirs.reset(seed=seed_of(ours, 1))[0]
        np.testing.assert_array_equal(ours.observations[1].numpy(), again)
    assert len(returns) > 2 and set(returns) <= set(ours.returns)
    assert ours.taken == 240 and ours.ended == sorted(ours.ended)


def seed_of(environments: Environments, slot: int) -> int:
    from etude.core.seeds import stream

    return stream(environments.seed, "episode", slot, environments.episode[slot]) >> 32


@pytest.mark.parametrize(("name", "choices"), [("CartPole-v1", 2), ("FrozenLake-v1", 4)])  # the second slips by chance
def test_it_goes_on_from_the_middle_of_episodes(name: str, choices: int, tmp_path):
    one, rest = Environments(name, 3, seed=1), actions(3, choices, 60, seed=2)
    for each in actions(3, choices, 47, seed=1):
        one.step(each)
    assert any(len(done) > 0 for done in one.done)
    path = save_state(tmp_path, 47, State({"x": torch.zeros(1), **one.state().tensors}, one.state().values))
    other = Environments(name, 3, seed=1)
    other.load(load_state(path))
    assert torch.equal(one.observations, other.observations)
    for each in rest:
        for a, b in zip(one.step(each), other.step(each), strict=True):
            assert torch.equal(a, b)
    assert (one.returns, one.ended, one.taken) == (other.returns, other.ended, other.taken)


def test_a_cut_is_no_end():
    cut = Environments("CartPole-v1:max_episode_steps=3", 1, seed=0)
    happened = [cut.step(torch.tensor([t % 2])) for t in range(3)][-1]
    assert happened.truncated.item() and not happened.terminated.item() and happened.over.item()
    assert not torch.equal(happened.after, cut.observations)  # what would have gone on, and what began


def test_discrete_observations_are_one_hot():
    lake = Environments(LAKE, 2, seed=0)
    assert (lake.width, lake.actions) == (16, 4)
    assert lake.observations.argmax(1).tolist() == [0, 0] and lake.observations.sum(1).tolist() == [1, 1]
    right, down = 2, 1
    assert lake.step(torch.tensor([right, down])).after.argmax(1).tolist() == [1, 4]


def test_actions_and_observations_that_begin_elsewhere():
    class Shifted(gymnasium.Env):
        observation_space = gymnasium.spaces.Discrete(3, start=5)
        action_space = gymnasium.spaces.Discrete(2, start=-1)

        def reset(self, *, seed: int | None = None, options: Any = None):
            super().reset(seed=seed)
            return 6, {}

        def step(self, action: int):
            assert action in (-1, 0)
            return 6 + action, 1.0, False, False, {}

    gymnasium.register("test/Shifted-v0", entry_point=lambda **options: Shifted(**options), max_episode_steps=9)
    try:
        shifted = Environments("test/Shifted-v0", 1, seed=0)
        assert shifted.step(torch.tensor([0])).after.tolist() == [[1, 0, 0]]
        assert shifted.step(torch.tensor([1])).after.tolist() == [[0, 1, 0]]
    finally:
        del gymnasium.registry["test/Shifted-v0"]


def test_the_threshold_is_the_registrys():
    assert threshold_of("CartPole-v1") == 475.0
    assert threshold_of("CliffWalking-v1:max_episode_steps=200") is None
    assert threshold_of(LAKE) is None  # the registry means the slippery one


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("CartPol-v1", r"unknown environment 'CartPol-v1': the nearest are CartPole-v1"),
        ("CartPole-v7", r"unknown environment 'CartPole-v7': the nearest are CartPole-v"),
        ("no name at all", r"unknown environment 'no name at all':"),
        ("Pendulum-v1", r"the actions of Pendulum-v1 are Box.*discrete ones, as CartPole-v1"),
        ("Blackjack-v1", r"the observations of Blackjack-v1 are Tuple"),
        ("CliffWalking-v1", r"need have no end: .*--environment CliffWalking-v1:max_episode_steps=200"),
        ("FrozenLake-v1:slippery=false", r"FrozenLake-v1 does not take slippery=false: .*slippery"),
        ("absent:Thing-v0", r"absent:Thing-v0 needs what is not installed"),
    ],
)
def test_what_cannot_be_played(name: str, said: str):
    with pytest.raises(UsageError, match=said) as caught:
        made(name)
    assert "\n" not in str(caught.value)


def test_without_gymnasium_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gymnasium" else find(name))
    with pytest.raises(UsageError, match=r"needs what is not installed: pip install 'etude\[rl\]'"):
        made("CartPole-v1")
