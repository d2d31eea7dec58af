"""What every algorithm of reinforcement learning owes, asked of each file in the family's folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import gymnasium
import pytest
import torch

from etude.core.errors import UsageError
from etude.core.family import Family
from etude.core.lab import Lab
from etude.core.spec import field_types
from etude.culture.algorithms.base import POSITIVE, SHARES, Algorithm
from etude.culture.ladder_recipes import Climb
from etude.culture.ladder_work import evaluated, learner_of, policy_of
from etude.culture.learners.learner import Learner
from etude.train.checkpoint import load_state, save_state

FAMILY = Family("culture/algorithms")

ARGUMENTS: dict[str, dict[str, Any]] = {
    "reinforce": {"rate": 2e-2, "width": 16},
    "a2c": {"environments": 4, "horizon": 8, "rate": 1e-2, "width": 16},
    "ppo": {"environments": 4, "horizon": 16, "batch": 32, "epochs": 4, "rate": 1e-2, "width": 16},
    "dqn": {"memory": 500, "start": 100, "every": 2, "batch": 32, "lag": 50, "rate": 5e-3, "width": 16},
}
"""What makes a member quick in a corridor."""

LENGTH, CUT = 5, 30
CORRIDOR = "test/Corridor-v0"


class Corridor(gymnasium.Env):
    """One step to the right or the left, each at a price; the right end is a way out. Where it begins is drawn."""

    observation_space = gymnasium.spaces.Discrete(LENGTH)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None):
        super().reset(seed=seed)
        self.at = int(self.np_random.integers(0, 2))
        return self.at, {}

    def step(self, action: int):
        self.at = max(0, self.at + (1 if action == 1 else -1))
        out = self.at == LENGTH - 1
        return self.at, 1.0 if out else -0.1, out, False, {}


@pytest.fixture(scope="module", autouse=True)
def _corridor() -> Iterator[None]:
    gymnasium.register(CORRIDOR, entry_point=lambda **options: Corridor(**options), max_episode_steps=CUT)
    yield
    del gymnasium.registry[CORRIDOR]


@pytest.fixture(params=FAMILY.names(), scope="module")
def spec(request: pytest.FixtureRequest) -> Algorithm:
    return cast(Algorithm, FAMILY.member(request.param)(**ARGUMENTS.get(request.param, {})))


def climb(spec: Algorithm, steps: int = 3000, seed: int = 0) -> Climb:
    return Climb(CORRIDOR, spec, steps=steps, episodes=20, seed=seed)


def weights(learner: Learner) -> dict[str, torch.Tensor]:
    nets = learner.networks.items()
    return {f"{part}.{name}": value.clone() for part, net in nets for name, value in net.state_dict().items()}


def taken(learner: Learner, steps: range) -> list[dict[str, Any]]:
    return [learner.step(number) for number in steps]


def same(a: Learner, b: Learner) -> bool:
    return all(torch.equal(value, weights(b)[name]) for name, value in weights(a).items())


def test_the_family_has_its_members():
    assert {"reinforce", "a2c", "ppo", "dqn"} <= set(FAMILY.names())
    assert FAMILY.base() is Algorithm


def test_it_finds_the_way_out(spec: Algorithm, tmp_path: Path):
    run = Lab(tmp_path, threads=1, quiet=True).run(climb(spec))
    best = evaluated(climb(spec), lambda seen: torch.ones(len(seen), dtype=torch.int64))  # always to the right
    assert run.result["returns"] == pytest.approx(best.tolist())
    assert run.result["random"]["high"] < run.result["return"]["low"]
    rows = run.record
    assert rows[-1]["environment_steps"] == run.result["environment_steps"] == 3000 // spec.beside * spec.beside
    assert rows[-1]["return"] > rows[5]["return"]
    episodes = run.tensors("episodes.safetensors")
    assert len(episodes["return"]) == len(episodes["ended"]) == run.result["training_episodes"]


def test_what_it_learned_is_read_back(spec: Algorithm, tmp_path: Path):
    recipe = climb(spec, steps=600)
    run = Lab(tmp_path, threads=1, quiet=True).run(recipe)
    assert evaluated(recipe, policy_of(run)).tolist() == run.result["returns"]


@pytest.mark.parametrize("cut", [0, 1, 37, 203])
def test_it_goes_on_bit_for_bit_from_any_step(spec: Algorithm, cut: int, tmp_path: Path):
    """Also from the middle of an episode, and of what is gathered for an update."""
    unbroken, recipe = learner_of(climb(spec)), climb(spec)
    taken(unbroken, range(cut))
    path = save_state(tmp_path, cut, unbroken.state())
    wanted = taken(unbroken, range(cut, cut + 150))
    resumed = learner_of(recipe)
    resumed.load(load_state(path))
    assert taken(resumed, range(cut, cut + 150)) == wanted
    assert same(unbroken, resumed)
    assert unbroken.environments.state().values == resumed.environments.state().values


def test_it_does_the_same_twice_and_another_seed_does_not(spec: Algorithm):
    one, again, other = (learner_of(climb(spec, seed=seed)) for seed in (0, 0, 1))
    rows = [taken(learner, range(120)) for learner in (one, again, other)]
    assert rows[0] == rows[1] and same(one, again)
    assert rows[0] != rows[2] and not same(one, other)


def test_every_network_that_learns_moves(spec: Algorithm):
    learner = learner_of(climb(spec))
    before = weights(learner)
    taken(learner, range(400))
    assert [name for name, value in weights(learner).items() if torch.equal(value, before[name])] == []


def test_it_draws_from_its_own_generator(spec: Algorithm):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    taken(learner_of(climb(spec)), range(60))
    assert torch.equal(torch.get_rng_state(), before)


def test_spec_survives_json_and_says_what_it_adds(spec: Algorithm):
    assert Algorithm.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert spec.label and spec.adds and spec.source and spec.rung < 99


def test_numbers_out_of_range_are_told(spec: Algorithm):
    kind, names = type(spec), field_types(type(spec))
    for name in (name for name in POSITIVE if name in names):
        with pytest.raises(UsageError, match=rf"{spec.name}\.{name} = .* is over 0"):
            kind(**{name: 0})
    for name in (name for name in SHARES if name in names):
        with pytest.raises(UsageError, match=rf"{spec.name}\.{name} = 1.5 is no share"):
            kind(**{name: 1.5})
    with pytest.raises(UsageError, match="steps = 0, episodes = 20: give"):
        climb(spec, steps=0)
