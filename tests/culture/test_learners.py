"""What learners do with ends, cuts, memories and a copy that lags."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import gymnasium
import pytest
import torch

from etude.culture.algorithms.a2c import A2c
from etude.culture.algorithms.base import Algorithm
from etude.culture.algorithms.dqn import Dqn
from etude.culture.algorithms.ppo import Ppo
from etude.culture.algorithms.reinforce import Reinforce
from etude.culture.ladder_recipes import Climb
from etude.culture.ladder_work import learner_of
from etude.culture.learners.a2c import A2cLearner
from etude.culture.learners.dqn import DqnLearner
from etude.culture.learners.environments import Happened
from etude.culture.learners.networks import drawn, network
from etude.culture.learners.ppo import PpoLearner
from etude.culture.learners.reinforce import ReinforceLearner
from etude.culture.learners.replay import Remembered, Replay

ONE = "test/One-v0"


class One(gymnasium.Env):
    """An episode of one step that brings 1, ended by its own rules or cut off."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,))
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, ends: bool) -> None:
        self.ends = ends

    def reset(self, *, seed: int | None = None, options: Any = None):
        super().reset(seed=seed)
        return self.np_random.uniform(-1, 1, 2).astype("float32"), {}

    def step(self, action: int):
        return self.np_random.uniform(-1, 1, 2).astype("float32"), 1.0, self.ends, not self.ends, {}


@pytest.fixture(autouse=True)
def _one() -> Iterator[None]:
    gymnasium.register(ONE, entry_point=lambda **options: One(**options), max_episode_steps=9)
    yield
    del gymnasium.registry[ONE]


def learner(spec: Algorithm, ends: bool, steps: int = 1000) -> Any:
    return learner_of(Climb(f"{ONE}:ends={str(ends).lower()}", spec, steps=steps))


@pytest.mark.parametrize("spec", [A2c(environments=2, horizon=5), Ppo(environments=2, horizon=5)])
@pytest.mark.parametrize("ends", [True, False])
def test_actor_critics_ask_what_a_cut_episode_was_worth(spec: A2c | Ppo, ends: bool):
    live = cast(A2cLearner | PpoLearner, learner(spec, ends))
    happened: list[Happened] = []
    step = live.environments.step
    live.environments.step = lambda actions: happened.append(step(actions)) or happened[-1]
    live.step(0)
    rewards, ended = live.rollout.steps[0][2:]
    beyond = 0.0 if ends else spec.discount * live.value(happened[0].after).detach()
    torch.testing.assert_close(rewards, torch.ones(2) + beyond)
    assert ended.all()


def test_what_an_action_is_worth_goes_past_a_cut_and_not_past_an_end():
    live = cast(DqnLearner, learner(Dqn(memory=10), ends=True))
    after = torch.tensor([[0.5, -0.5], [0.5, -0.5]])
    some = Remembered(after, torch.zeros(2, dtype=torch.int64), torch.ones(2), torch.tensor([True, False]), after)
    best = live.lagging(after[:1]).max().item()
    assert live.wanted(some).tolist() == pytest.approx([1.0, 1.0 + 0.99 * best])
    for ends in (True, False):
        live = cast(DqnLearner, learner(Dqn(memory=10), ends))
        live.step(0)
        assert live.replay.held.terminated[0].item() is ends


def test_the_copy_lags_and_then_catches_up():
    spec = Dqn(memory=50, start=4, every=1, batch=4, lag=10, rate=1e-2)
    live = cast(DqnLearner, learner(spec, ends=True))
    begun = {name: value.clone() for name, value in live.lagging.state_dict().items()}

    def equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
        return all(torch.equal(value, b[name]) for name, value in a.items())

    for number in range(9):
        live.step(number)
    assert equal(live.lagging.state_dict(), begun) and not equal(live.worth.state_dict(), begun)
    live.step(9)
    assert equal(live.lagging.state_dict(), live.worth.state_dict())
    live.step(10)
    assert not equal(live.lagging.state_dict(), live.worth.state_dict())


def test_exploration_falls_to_its_last_share():
    live = cast(DqnLearner, learner(Dqn(explored=0.1, exploring=0.5), ends=True, steps=100))
    assert [live.explored(n) for n in (0, 25, 50, 99)] == pytest.approx([1.0, 0.55, 0.1, 0.1])


def test_reinforce_waits_for_whole_episodes():
    live = cast(ReinforceLearner, learner(Reinforce(episodes=3), ends=True))
    lengths = []
    for number in range(7):
        live.step(number)
        lengths.append(len(live.rollout))
    assert lengths == [1, 2, 0, 1, 2, 0, 1]


def test_the_memory_holds_the_last_steps_each_with_its_own():
    """A planted truth: every field of step n holds n, so that fields that came apart are seen."""
    replay = Replay(5, 2)

    def numbered(n: int) -> Remembered:
        row = torch.full((1, 2), float(n))
        return Remembered(row, torch.tensor([n]), torch.tensor([float(n)]), torch.tensor([n % 2 == 0]), row + 0.5)

    for n in range(3):
        replay.add(numbered(n))
    assert len(replay) == 3
    assert set(replay.draw(200, torch.Generator().manual_seed(0)).actions.tolist()) == {0, 1, 2}
    for n in range(3, 13):
        replay.add(numbered(n))
    some = replay.draw(500, torch.Generator().manual_seed(0))
    assert set(some.actions.tolist()) == {8, 9, 10, 11, 12}
    assert torch.equal(some.seen[:, 0], some.actions.float()) and torch.equal(some.after[:, 1], some.seen[:, 1] + 0.5)
    assert torch.equal(some.rewards, some.actions.float()) and torch.equal(some.terminated, some.actions % 2 == 0)
    other = Replay(5, 2)
    other.load(replay.state())
    for memory in (replay, other):
        memory.add(numbered(13))
    for a, b in zip(replay.held, other.held, strict=True):
        assert torch.equal(a, b)


def test_actions_are_drawn_with_their_chances():
    p = torch.tensor([0.6, 0.3, 0.1])
    actions = drawn(p.log().expand(20_000, 3), torch.Generator().manual_seed(0))
    torch.testing.assert_close(actions.bincount() / 20_000, p, atol=0.01, rtol=0)


def test_a_policy_begins_with_almost_even_chances():
    policy = network(4, 64, 3, 0, scale=0.01, part="policy")
    p = policy(torch.randn(50, 4, generator=torch.Generator().manual_seed(0))).softmax(-1)
    assert (p - 1 / 3).abs().max() < 0.02
    assert not torch.equal(
        policy.get_parameter("0.weight"), network(4, 64, 3, 0, scale=0.01, part="critic").get_parameter("0.weight")
    )
