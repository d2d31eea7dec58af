"""What every optimiser owes, asked of each file in the family's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from etude.core.errors import UsageError
from etude.core.family import Family
from etude.models.decoder import Decoder
from etude.models.decoder_model import DecoderModel
from etude.train.checkpoint import State, load_state, save_state
from etude.train.optimisers.base import Optimiser
from etude.train.recipes import Train

FAMILY = Family("train/optimisers")
ARGUMENTS: dict[str, dict[str, Any]] = {}
"""How a test makes one of a member; those left out need nothing."""

RATE = 3e-3
TOKENS = torch.randint(13, (4, 9), generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=FAMILY.names(), scope="module")
def spec(request: pytest.FixtureRequest) -> Optimiser:
    return cast(Optimiser, FAMILY.member(request.param)(**ARGUMENTS.get(request.param, {})))


def model() -> DecoderModel:
    return Decoder(layers=1, width=8, heads=2, feedforward=16, context=8).build(13, seed=1)


def loss_of(live: DecoderModel) -> torch.Tensor:
    logits = live(TOKENS[:, :-1])
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), TOKENS[:, 1:].flatten())


def advance(live: DecoderModel, optimiser: torch.optim.Optimizer, steps: int, rate: float = RATE) -> list[float]:
    losses = []
    for _ in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.zero_grad(set_to_none=True)
        loss = loss_of(live)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def weights(live: DecoderModel) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in live.named_parameters()}


def test_the_family_has_its_members():
    assert "adamw" in FAMILY.names()
    assert FAMILY.base() is Optimiser


def test_it_lowers_a_loss(spec: Optimiser):
    live = model()
    losses = advance(live, spec.build(live), 60)
    assert losses[-1] < losses[0] - 0.5


def test_it_skips_nothing(spec: Optimiser):
    live = model()
    optimiser = spec.build(live)
    held = [id(weight) for group in optimiser.param_groups for weight in group["params"]]
    assert sorted(held) == sorted(id(weight) for weight in live.parameters()), "each parameter once"
    before = weights(live)
    advance(live, optimiser, 2)
    unmoved = [name for name, weight in weights(live).items() if torch.equal(weight, before[name])]
    assert unmoved == []


def test_the_rate_is_the_schedules_alone(spec: Optimiser):
    live = model()
    optimiser, before = spec.build(live), weights(live)
    loss_of(live).backward()
    optimiser.step()
    assert all(torch.equal(weight, before[name]) for name, weight in weights(live).items()), "no schedule, no step"
    advance(live, optimiser, 1, rate=0.0)
    assert all(torch.equal(weight, before[name]) for name, weight in weights(live).items())


def test_its_state_survives_a_checkpoint_bit_for_bit(spec: Optimiser, tmp_path: Path):
    live = model()
    optimiser = spec.build(live)
    advance(live, optimiser, 5)
    path = save_state(tmp_path, 5, State.of(optimiser, model=live))
    unbroken = advance(live, optimiser, 5)
    other = model()
    resumed = spec.build(other)
    load_state(path).load_into(resumed, model=other)
    assert advance(other, resumed, 5) == unbroken
    assert all(torch.equal(weight, weights(live)[name]) for name, weight in weights(other).items())


def test_its_state_is_tensors(spec: Optimiser):
    live = model()
    optimiser = spec.build(live)
    advance(live, optimiser, 1)
    values = [value for state in optimiser.state.values() for value in state.values()]
    assert all(isinstance(value, torch.Tensor) for value in values)


def test_it_does_the_same_twice(spec: Optimiser):
    runs = []
    for _ in range(2):
        live = model()
        runs.append(advance(live, spec.build(live), 5))
    assert runs[0] == runs[1]


def test_spec_survives_json_and_names_the_run(spec: Optimiser):
    assert Optimiser.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert json.loads(json.dumps(Train(optimiser=spec).to_json()))["optimiser"]["member"] == spec.name


class TestAdamW:
    """What is this member's own."""

    def member(self, **fields: float) -> Optimiser:
        return cast(Optimiser, FAMILY.member("adamw")(**fields))

    def test_only_matrices_decay(self):
        live = model()
        optimiser = self.member(weight_decay=0.5).build(live)
        before = weights(live)
        for weight in live.parameters():
            weight.grad = torch.zeros_like(weight)
        for group in optimiser.param_groups:
            group["lr"] = 0.1
        optimiser.step()
        for name, weight in weights(live).items():
            decays = name.rpartition(".")[2].startswith("W_")
            torch.testing.assert_close(weight, before[name] * (0.95 if decays else 1.0), msg=name)

    def test_a_step_is_the_papers(self):
        """Algorithm 2 of Loshchilov and Hutter 2019, on one number."""
        live = torch.nn.Linear(1, 1, bias=False)
        live.register_parameter("W_x", torch.nn.Parameter(torch.tensor(2.0)))
        del live.weight
        optimiser = self.member(beta1=0.9, beta2=0.98, epsilon=1e-9, weight_decay=0.1).build(live)
        x, m, v = 2.0, 0.0, 0.0
        for t, g in enumerate((0.5, -0.3, 0.2), 1):
            optimiser.param_groups[0]["lr"] = 0.01 * t
            live.get_parameter("W_x").grad = torch.tensor(g)
            optimiser.step()
            m, v = 0.9 * m + 0.1 * g, 0.98 * v + 0.02 * g * g
            x -= 0.01 * t * (m / (1 - 0.9**t) / ((v / (1 - 0.98**t)) ** 0.5 + 1e-9) + 0.1 * x)
        assert live.get_parameter("W_x").item() == pytest.approx(x, rel=1e-5)

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"beta1": 1.0}, "betas 1.0, 0.95"),
            ({"beta2": -0.1}, "at least 0 and below 1"),
            ({"epsilon": 0.0}, "epsilon 0.0"),
            ({"weight_decay": -1.0}, "weight decay -1.0"),
        ],
    )
    def test_bad_fields(self, fields: dict[str, float], message: str):
        with pytest.raises(UsageError, match=message):
            self.member(**fields)
