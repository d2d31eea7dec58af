"""What every objective owes, asked of each file in the family's folder."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
import torch

from etude.core.family import Family
from etude.text.batches import IGNORE
from etude.train.objectives.base import Objective
from etude.train.recipes import Train

FAMILY = Family("train/objectives")
ARGUMENTS: dict[str, dict[str, Any]] = {}
"""How a test makes one of a member; those left out need nothing."""

B, T, V = 4, 6, 9


@pytest.fixture(params=FAMILY.names(), scope="module")
def objective(request: pytest.FixtureRequest) -> Objective:
    return cast(Objective, FAMILY.member(request.param)(**ARGUMENTS.get(request.param, {})))


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(B, T, V, generator=torch.Generator().manual_seed(0)).requires_grad_()


@pytest.fixture
def targets() -> torch.Tensor:
    drawn = torch.randint(V, (B, T), generator=torch.Generator().manual_seed(1))
    drawn[0, 2:] = drawn[2, 0] = drawn[3, -1] = IGNORE
    return drawn


def gradient(objective: Objective, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(objective.loss(logits, targets), logits)[0]


def test_the_family_has_its_members():
    assert "next-token" in FAMILY.names()
    assert FAMILY.base() is Objective


def test_a_loss_is_one_finite_number(objective: Objective, logits: torch.Tensor, targets: torch.Tensor):
    loss = objective.loss(logits, targets)
    assert loss.shape == () and loss.dtype == torch.float32
    assert torch.isfinite(loss) and loss.item() > 0
    assert torch.isfinite(objective.loss(logits * 1e4, targets))


def test_ignored_positions_count_for_nothing(objective: Objective, logits: torch.Tensor, targets: torch.Tensor):
    ignored = targets == IGNORE
    changed = torch.where(ignored[..., None], torch.full_like(logits, 50.0), logits)
    assert objective.loss(changed, targets).item() == objective.loss(logits, targets).item()
    assert (gradient(objective, logits, targets)[ignored] == 0).all()
    assert objective.loss(logits, torch.full_like(targets, IGNORE)).item() == 0


def test_parts_add_up_to_the_whole(objective: Objective, logits: torch.Tensor, targets: torch.Tensor):
    whole = objective.loss(logits, targets)
    for axis in (0, 1):
        pairs = zip(logits.split(1, axis), targets.split(1, axis), strict=True)
        torch.testing.assert_close(sum(objective.loss(a, b) for a, b in pairs), whole)


def test_it_falls_when_the_right_logit_rises(objective: Objective, logits: torch.Tensor, targets: torch.Tensor):
    slope = gradient(objective, logits, targets)
    for b, t in (targets != IGNORE).nonzero().tolist():
        assert slope[b, t, targets[b, t]] < 0


def test_low_precision_loses_nothing_more(objective: Objective, logits: torch.Tensor, targets: torch.Tensor):
    rough = logits.detach().bfloat16()
    assert objective.loss(rough, targets).item() == pytest.approx(
        objective.loss(rough.float(), targets).item(), rel=1e-6
    )


def test_spec_survives_json_and_names_the_run(objective: Objective):
    assert Objective.from_json(json.loads(json.dumps(objective.to_json()))) == objective
    assert json.loads(json.dumps(Train(objective=objective).to_json()))["objective"]["member"] == objective.name


def test_next_token_is_the_cross_entropy(logits: torch.Tensor, targets: torch.Tensor):
    expected = 0.0
    logp = logits.detach().double().log_softmax(-1)
    for b, t in (targets != IGNORE).nonzero().tolist():
        expected -= logp[b, t, targets[b, t]].item()
    found = cast(Objective, FAMILY.member("next-token")()).loss(logits, targets)
    assert found.item() == pytest.approx(expected, rel=1e-6)
