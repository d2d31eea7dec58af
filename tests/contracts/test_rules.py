"""What every rule owes, asked of each file in the family's folder: a loss that makes better what was done."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from etude.core.errors import UsageError
from etude.core.family import Family, member
from etude.culture.rules.base import Rule

FAMILY = Family("culture/rules")
ARGUMENTS: dict[str, dict[str, Any]] = {}
"""How a test makes one of a member; those left out need nothing."""

WORTH = torch.tensor([0.0, 0.2, 1.0, -0.5, 0.1])


@pytest.fixture(params=FAMILY.names())
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def make(name: str) -> Callable[..., Rule]:
    return lambda **fields: cast(Rule, FAMILY.member(name)(**{**ARGUMENTS.get(name, {}), **fields}))


def batch(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    now, before = (torch.randn(6, 7, 5, generator=draw).log_softmax(-1) for _ in range(2))
    return now, before, torch.randint(5, (6, 7), generator=draw), torch.randn(6, 7, generator=draw)


def test_the_family_has_its_members() -> None:
    assert FAMILY.names() == ["ppo", "v-mpo"]
    assert FAMILY.base() is Rule


def test_it_finds_what_is_worth_most(make: Callable[..., Rule]) -> None:
    """A policy with nothing to see, learning from what it draws itself."""
    live, draw = make().build(), torch.Generator().manual_seed(0)
    logits = torch.zeros(5, requires_grad=True)
    optimiser = torch.optim.Adam([logits, *live.parameters()], lr=0.05)
    for _ in range(200):
        before = logits.detach().log_softmax(0).expand(16, 4, 5)
        actions = torch.multinomial(before.reshape(-1, 5).exp(), 1, generator=draw).view(16, 4)
        gains = WORTH[actions]
        gains = (gains - gains.mean()) / (gains.std(correction=0) + 1e-8)
        told = live(logits.log_softmax(0).expand(16, 4, 5), before, actions, gains)
        optimiser.zero_grad()
        told["loss"].backward()
        optimiser.step()
    chances = logits.detach().softmax(0)
    assert int(chances.argmax()) == 2 and chances[2] > 0.5, chances


def test_only_the_policy_and_its_own_parameters_are_pulled(make: Callable[..., Rule]) -> None:
    live = make().build()
    now, before, actions, gains = batch()
    for each in (now, before, gains):
        each.requires_grad_()
    told = live(now, before, actions, gains)
    told["loss"].backward()
    assert now.grad is not None and torch.isfinite(now.grad).all() and now.grad.any()
    assert before.grad is None or not before.grad.any()
    assert gains.grad is None or not gains.grad.any()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in live.parameters())


def test_what_it_logs_are_finite_numbers_with_the_entropy(make: Callable[..., Rule]) -> None:
    now, before, actions, gains = batch()
    told = make().build()(now, before, actions, gains)
    assert all(value.ndim == 0 and math.isfinite(value.item()) for value in told.values())
    assert told["entropy"].item() == pytest.approx(-(now.exp() * now).sum(-1).mean().item(), rel=1e-5)


def test_it_is_written_and_read_back(make: Callable[..., Rule]) -> None:
    spec = make()
    assert Rule.from_json(spec.to_json()) == spec
    live, other = spec.build(), spec.build()
    for parameter in live.parameters():
        parameter.data += 0.3
    other.load_state_dict(live.state_dict())
    assert torch.equal(live(*batch())["loss"], other(*batch())["loss"])


def test_its_rate_stays_and_then_falls_to_nothing(make: Callable[..., Rule]) -> None:
    rule = make(rate=1e-2, fall=0.5)
    rates = [rule.rate_at(update, 10) for update in range(11)]
    assert rates[:6] == [1e-2] * 6 and rates[10] == 0
    assert rates[6:] == pytest.approx([8e-3, 6e-3, 4e-3, 2e-3, 0])
    assert make(rate=1e-2, fall=0).rate_at(9, 10) == 1e-2


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"discount": 1}, "discount = 1, decay = 0.8: give shares"),
        ({"decay": 1.5}, "discount = 0.9, decay = 1.5: give shares"),
        ({"epochs": 0}, "epochs = 0, minibatches = 8: give 1 or more"),
        ({"minibatches": 0}, "epochs = 1, minibatches = 0: give 1 or more"),
        ({"rate": 0}, "rate = 0, fall = 0.3: give a rate above 0"),
        ({"fall": 1.1}, "rate = 0.002, fall = 1.1: give a rate above 0 and a share"),
    ],
)
def test_what_every_rule_refuses(make: Callable[..., Rule], fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=f"^{words}"):
        make(**fields)


@pytest.mark.parametrize(
    ("which", "fields", "words"),
    [
        ("ppo", {"clip": 0}, "clip = 0, entropy = 0.02: give a share"),
        ("ppo", {"entropy": -1}, "clip = 0.2, entropy = -1: give a share"),
        ("v-mpo", {"trust": 0}, "the bounds, the first temperature and the first price of V-MPO are above 0"),
    ],
)
def test_what_one_of_them_refuses(which: str, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=f"^{words}"):
        member("culture/rules", which, **fields)
