"""Returns, advantages and surrogates against slow plain references, and truths about each."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from etude.culture.returns import advantages, discounted, standardised
from etude.culture.surrogates import clipped_loss, entropy, policy_gradient_loss

QUICK = settings(max_examples=40, deadline=None)


@st.composite
def played(draw: st.DrawFn) -> dict[str, Tensor]:
    """Return rewards, values and ends [T B], in fp64, and the values after the last step [B]."""
    seed, T, B = draw(st.integers(0, 2**31)), draw(st.integers(1, 9)), draw(st.integers(1, 3))
    rng = torch.Generator().manual_seed(seed)
    wide = {name: torch.randn(T, B, generator=rng, dtype=torch.float64) for name in ("rewards", "values")}
    ended = torch.rand(T, B, generator=rng) < draw(st.sampled_from((0.0, 0.3, 1.0)))
    return {**wide, "ended": ended, "after": torch.randn(B, generator=rng, dtype=torch.float64)}


def episodes_from(x: dict[str, Tensor], t: int, b: int) -> tuple[list[float], float]:
    """Return the rewards from a step to the end of its episode, or of what was played, and what follows is worth."""
    found: list[float] = []
    for k in range(t, len(x["rewards"])):
        found.append(x["rewards"][k, b].item())
        if x["ended"][k, b]:
            return found, 0.0
    return found, x["after"][b].item()


@QUICK
@given(played(), st.floats(0, 1))
def test_the_discounted_return_is_the_sum_that_it_says(x: dict[str, Tensor], discount: float):
    got = discounted(x["rewards"], x["ended"], discount, x["after"])
    for t, b in np.ndindex(*got.shape):
        rewards, following = episodes_from(x, t, b)
        wanted = sum(discount**k * reward for k, reward in enumerate(rewards)) + discount ** len(rewards) * following
        assert got[t, b].item() == pytest.approx(wanted, abs=1e-9)


@QUICK
@given(played(), st.floats(0, 1), st.floats(0, 1))
def test_the_advantage_is_the_sum_of_errors_that_it_says(x: dict[str, Tensor], discount: float, decay: float):
    """Equation 16 of Schulman et al. 2015, term by term, up to the end of the episode."""
    values, ended = x["values"], x["ended"]
    got = advantages(x["rewards"], values, ended, x["after"], discount, decay)
    following = torch.cat([values[1:], x["after"][None]])
    errors = x["rewards"] + discount * torch.where(ended, 0.0, following) - values
    for t, b in np.ndindex(*got.shape):
        length = len(episodes_from(x, t, b)[0])
        wanted = sum((discount * decay) ** k * errors[t + k, b].item() for k in range(length))
        assert got[t, b].item() == pytest.approx(wanted, abs=1e-9)


@QUICK
@given(played(), st.floats(0, 1))
def test_with_lambda_one_the_advantage_is_the_return_less_the_value(x: dict[str, Tensor], discount: float):
    got = advantages(x["rewards"], x["values"], x["ended"], x["after"], discount, 1.0)
    wanted = discounted(x["rewards"], x["ended"], discount, x["after"]) - x["values"]
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


@QUICK
@given(played(), st.floats(0, 1), st.floats(0, 1))
def test_nothing_flows_back_across_an_end(x: dict[str, Tensor], discount: float, decay: float):
    x["ended"][len(x["ended"]) // 2] = True
    before = slice(0, len(x["ended"]) // 2 + 1)
    changed = {name: value.clone() for name, value in x.items()}
    for name in ("rewards", "values", "after"):
        (changed[name] if name == "after" else changed[name][before.stop :]).add_(100.0)
    for found, other in (
        (discounted(y["rewards"], y["ended"], discount, y["after"]) for y in (x, changed)),
        (advantages(y["rewards"], y["values"], y["ended"], y["after"], discount, decay) for y in (x, changed)),
    ):
        assert torch.equal(found[before], other[before])


def test_a_value_that_is_right_leaves_no_advantage():
    """Rewards of 1 for ever are worth 1 / (1 - gamma)."""
    worth = torch.full((5, 2), 10.0, dtype=torch.float64)
    ones, never = torch.ones_like(worth), torch.zeros(5, 2, dtype=torch.bool)
    assert advantages(ones, worth, never, worth[0], 0.9, 0.7).abs().max() < 1e-9
    torch.testing.assert_close(discounted(ones, never, 0.9, worth[0]), worth)


def test_standardised_numbers():
    x = torch.tensor([[1.0, 2.0], [3.0, 10.0]], dtype=torch.float64)
    got = standardised(x)
    assert got.mean().abs() < 1e-12 and got.std(correction=0).item() == pytest.approx(1.0)
    assert standardised(torch.full((4,), 3.0)).abs().max() == 0.0  # nothing to prefer


def test_the_policy_gradient_is_that_of_the_expected_gain():
    """Weighed by the chances themselves, it is the exact gradient of the expectation."""
    scores = torch.tensor([0.2, -0.4, 0.1], dtype=torch.float64, requires_grad=True)
    gains = torch.tensor([1.0, 3.0, -2.0], dtype=torch.float64)
    p = scores.softmax(0)
    (wanted,) = torch.autograd.grad((p * gains).sum(), scores)
    weights = 3 * p.detach() * gains  # the loss is a mean over three
    (got,) = torch.autograd.grad(policy_gradient_loss(scores.log_softmax(0), weights), scores)
    torch.testing.assert_close(got, -wanted)


def test_gains_are_constants():
    gains = torch.ones(3, requires_grad=True)
    log_p = torch.zeros(3, requires_grad=True)
    for loss in (policy_gradient_loss(log_p, gains), clipped_loss(log_p, log_p, gains, 0.2)):
        loss.backward()
    assert gains.grad is None


@pytest.mark.parametrize(
    ("ratio", "gain", "wanted", "pulls"),
    [
        (1.0, 2.0, 2.0, True),
        (1.1, 2.0, 2.2, True),
        (1.5, 2.0, 2.4, False),  # enough already
        (0.5, 2.0, 1.0, True),  # too far the wrong way: it is pulled back
        (0.5, -2.0, -1.6, False),
        (1.5, -2.0, -3.0, True),
    ],
)
def test_the_clip_lets_go_where_the_policy_went_far_enough(ratio: float, gain: float, wanted: float, pulls: bool):
    log_p = torch.tensor([math.log(ratio)], dtype=torch.float64, requires_grad=True)
    before = torch.zeros(1, dtype=torch.float64)
    loss = clipped_loss(log_p, before, torch.tensor([gain], dtype=torch.float64), 0.2)
    assert loss.item() == pytest.approx(-wanted)
    (gradient,) = torch.autograd.grad(loss, log_p)
    assert (gradient.abs().item() > 0) == pulls


def test_at_the_first_update_the_clip_is_the_policy_gradient():
    log_p = torch.randn(6, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    gains = torch.randn(6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    clipped, plain = (
        torch.autograd.grad(loss, log_p)[0]
        for loss in (clipped_loss(log_p, log_p, gains, 0.2), policy_gradient_loss(log_p, gains))
    )
    torch.testing.assert_close(clipped, plain)


@pytest.mark.parametrize("A", [1, 2, 7])
def test_entropy_is_between_none_and_the_uniform(A: int):
    assert entropy(torch.zeros(3, A).log_softmax(-1)).tolist() == pytest.approx([math.log(A)] * 3, abs=1e-6)
    scores = 40.0 * torch.eye(A)
    assert entropy(scores.log_softmax(-1)).abs().max() < 1e-5
    p = torch.tensor([0.25, 0.75])
    assert entropy(p.log()).item() == pytest.approx(-(0.25 * math.log(0.25) + 0.75 * math.log(0.75)))
