"""What every optimiser owes, asked of each file in the family's folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from etude.core.errors import UsageError
from etude.core.family import Family
from etude.models.architectures.decoder import Decoder
from etude.models.transformer import Transformer
from etude.train.checkpoint import State, load_state, save_state
from etude.train.optimisers.base import Optimiser, is_hidden, parameter_groups
from etude.train.recipes import Train

FAMILY = Family("train/optimisers")
ARGUMENTS: dict[str, dict[str, Any]] = {}
"""How a test makes one of a member; those left out need nothing."""

RATE = 3e-3
TOKENS = torch.randint(13, (4, 9), generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=FAMILY.names(), scope="module")
def spec(request: pytest.FixtureRequest) -> Optimiser:
    return cast(Optimiser, FAMILY.member(request.param)(**ARGUMENTS.get(request.param, {})))


def model() -> Transformer:
    return Decoder(layers=1, width=8, heads=2, feedforward=16, context=8).build(13, seed=1)


def loss_of(live: Transformer) -> torch.Tensor:
    logits = live(TOKENS[:, :-1])
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), TOKENS[:, 1:].flatten())


def advance(live: Transformer, optimiser: torch.optim.Optimizer, steps: int, rate: float = RATE) -> list[float]:
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


def weights(live: Transformer) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in live.named_parameters()}


def test_the_family_has_its_members():
    assert FAMILY.names() == ["adamw", "muon"]
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


class TestGroups:
    """The parameters as members share them out."""

    def test_matrices_decay_and_the_rest_does_not(self):
        live = model()
        groups = parameter_groups(live, 0.3)
        names = {id(p): name.rpartition(".")[2] for name, p in live.named_parameters()}
        assert [group["weight_decay"] for group in groups] == [0.3, 0.0]
        assert all(names[id(p)].startswith("W_") for p in groups[0]["params"])
        assert {names[id(p)][0] for p in groups[1]["params"]} == {"w", "b"}

    def test_order_is_that_of_the_model(self):
        """Checkpoints number their optimiser's tensors by it."""
        live = model()
        named = list(live.named_parameters())
        matrices = [p for name, p in named if name.rpartition(".")[2].startswith("W_")]
        others = [p for name, p in named if not name.rpartition(".")[2].startswith("W_")]
        found = [p for group in parameter_groups(live, 0.1) for p in group["params"]]
        assert [id(p) for p in found] == [id(p) for p in (*matrices, *others)]

    def test_a_model_without_a_spec(self):
        assert [len(group["params"]) for group in parameter_groups(torch.nn.Linear(2, 3), 0.1)] == [2]

    def test_without_the_hidden_ones(self):
        live = model()
        names = {id(p): name for name, p in live.named_parameters()}
        kept = {names[id(p)] for group in parameter_groups(live, 0.1, hidden=False) for p in group["params"]}
        assert kept == {name for name in names.values() if not is_hidden(name)}
        assert "embed.W_E" in kept and "layers.0.mlp.W_in" not in kept

    @pytest.mark.parametrize("tied", [False, True])
    def test_mup_slows_hidden_matrices_alone(self, tied: bool):
        live = Decoder(layers=1, width=16, heads=2, context=8, feedforward=32, mup_base=4, tied=tied).build(13, seed=1)
        names = {id(p): name for name, p in live.named_parameters()}
        groups = parameter_groups(live, 0.1)
        rates = {names[id(p)]: group.get("multiplier", 1.0) for group in groups for p in group["params"]}
        assert rates == {name: 0.25 if is_hidden(name) else 1.0 for name in names.values()}
        assert {name.rpartition(".")[2] for name, rate in rates.items() if rate != 1} == {
            *("W_Q", "W_K", "W_V", "W_O"),
            *("W_in", "W_out"),
        }

    def test_at_its_base_mup_changes_nothing(self):
        shape = Decoder(layers=1, width=16, heads=2, context=8, feedforward=32)
        plain, base = (replace(shape, mup_base=width).build(13, seed=1) for width in (0, 16))
        ours, theirs = ([len(g["params"]) for g in parameter_groups(live, 0.1)] for live in (plain, base))
        assert ours == theirs

    @pytest.mark.parametrize(("fields", "slowed"), [({}, 0.25), ({"scale": "original"}, 1.0)])
    def test_muon_under_mup(self, fields: dict[str, Any], slowed: float):
        live = Decoder(layers=1, width=16, heads=2, context=8, feedforward=32, mup_base=4).build(13, seed=1)
        groups = FAMILY.member("muon")(**fields).build(live).param_groups  # type: ignore[attr-defined]
        assert [group["multiplier"] for group in groups] == [slowed, 1.0, 1.0]


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
