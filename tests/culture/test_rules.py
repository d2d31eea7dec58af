"""Losses of policies against plain formulas written out again, and the gradients of what V-MPO learns beside."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from etude.culture.improving import BetterHalf, Clipped
from etude.culture.surrogates import clipped_loss, of_actions, policy_gradient_loss


def batch(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    before = torch.randn(4, 5, 3, generator=draw).log_softmax(-1)
    now = (before + 0.3 * torch.randn(4, 5, 3, generator=draw)).log_softmax(-1)
    return now, before, torch.randint(3, (4, 5), generator=draw), torch.randn(4, 5, generator=draw)


def test_ppo_at_ratio_one_is_the_policy_gradient() -> None:
    _, before, actions, gains = batch()
    found = []
    for loss in (
        lambda log_p: clipped_loss(of_actions(log_p, actions), of_actions(before, actions), gains, 0.2),
        lambda log_p: policy_gradient_loss(of_actions(log_p, actions), gains),
    ):
        log_p = before.clone().requires_grad_()
        loss(log_p).backward()
        found.append(log_p.grad)
    torch.testing.assert_close(*found)


def test_ppo_step_by_step() -> None:
    now, before, actions, gains = batch()
    total = spread = 0.0
    for b in range(4):
        for t in range(5):
            a = int(actions[b, t])
            ratio = float((now[b, t, a] - before[b, t, a]).exp())
            gain = float(gains[b, t])
            total += min(ratio * gain, min(max(ratio, 0.9), 1.1) * gain)
            spread -= sum(p * float(np.log(p)) for p in now[b, t].exp().tolist())
    told = Clipped(clip=0.1, bonus=0.5)(now, before, actions, gains)
    assert told["loss"].item() == pytest.approx(-total / 20 - 0.5 * spread / 20, rel=1e-5)
    assert told["entropy"].item() == pytest.approx(spread / 20, rel=1e-5)


@pytest.mark.parametrize(
    ("gain", "ratio", "pulls"), [(1, 1.5, False), (1, 0.5, True), (-1, 1.5, True), (-1, 0.5, False)]
)
def test_the_clip_stops_what_goes_further_and_nothing_that_comes_back(gain: int, ratio: float, pulls: bool) -> None:
    log_p = torch.tensor([np.log(0.5)], dtype=torch.float32).requires_grad_()
    clipped_loss(log_p, log_p.detach() - float(np.log(ratio)), torch.tensor([float(gain)]), 0.2).backward()
    assert log_p.grad is not None
    assert bool(log_p.grad.abs().sum() > 0) == pulls


def plain_v_mpo(now: Tensor, before: Tensor, actions: Tensor, gains: Tensor, **of: float) -> dict[str, float]:
    """V-MPO written out in NumPy (arXiv 1909.12238, equations 2 to 5): the value, and the slopes of its multipliers."""
    log_p, log_q = now.numpy().reshape(-1, 3).astype(float), before.numpy().reshape(-1, 3).astype(float)
    gain, taken = gains.numpy().ravel().astype(float), actions.numpy().ravel()
    half = np.argsort(-gain)[: len(gain) // 2]
    eta, alpha = of["eta"], of["alpha"]
    raised = np.exp(gain[half] / eta)
    weights = raised / raised.sum()
    policy = -(weights * log_p[half, taken[half]]).sum()
    worth = np.log(raised.mean())
    away = float(np.mean([(np.exp(q) * (q - p)).sum() for p, q in zip(log_p, log_q, strict=True)]))
    return {
        "loss": float(policy + eta * (of["bound"] + worth) + alpha * (of["trust"] - away) + alpha * away),
        "divergence": away,
        "log_temperature": float(eta * (of["bound"] + worth - (weights * gain[half]).sum() / eta)),
        "log_price": alpha * (of["trust"] - away),
    }


@pytest.mark.parametrize(("eta", "alpha"), [(1.0, 5.0), (0.3, 0.7)])
def test_v_mpo_against_its_formulas(eta: float, alpha: float) -> None:
    now, before, actions, gains = batch()
    of = {"eta": eta, "alpha": alpha, "bound": 0.1, "trust": 0.02}
    wanted = plain_v_mpo(now, before, actions, gains, **of)
    live = BetterHalf(0.1, 0.02, eta, alpha)
    told = live(now, before, actions, gains)
    assert told["loss"].item() == pytest.approx(wanted["loss"], rel=1e-5)
    assert told["divergence"].item() == pytest.approx(wanted["divergence"], rel=1e-4)
    assert (told["temperature"].item(), told["price"].item()) == pytest.approx((eta, alpha))
    told["loss"].backward()
    for name in ("log_temperature", "log_price"):
        slope = live.get_parameter(name).grad
        assert slope is not None and slope.item() == pytest.approx(wanted[name], rel=1e-4), name


def test_v_mpo_pulls_the_better_half_alone() -> None:
    """Where the policy has not moved, the divergence has no slope, and what brought little is left alone."""
    _, before, actions, gains = batch()
    log_p = before.clone().requires_grad_()
    live = BetterHalf(0.1, 0.02, 1.0, 5.0)
    chosen = of_actions(log_p, actions)
    chosen.retain_grad()
    half = gains.flatten().topk(10).indices
    weights = torch.softmax(gains.flatten()[half], 0)
    live(log_p, before, actions, gains)["loss"].backward()
    wanted = torch.zeros(20, 3)
    wanted[half, actions.flatten()[half]] = -weights
    assert log_p.grad is not None
    # the divergence's slope in log_p is -p, before the softmax that makes log_p takes it away again
    torch.testing.assert_close(log_p.grad.view(20, 3), wanted - 5.0 * before.exp().view(20, 3) / 20)


def test_the_temperature_goes_to_where_the_weights_lean_by_its_bound() -> None:
    """At the optimum of the dual the divergence of the weights from even ones is the bound."""
    _, before, actions, gains = batch(1)
    live = BetterHalf(0.1, 0.02, 3.0, 1.0)
    optimiser = torch.optim.Adam([live.log_temperature], lr=0.02)
    for _ in range(600):
        optimiser.zero_grad()
        live(before, before, actions, gains)["loss"].backward()
        optimiser.step()
    best = gains.flatten().topk(10).values
    weights = torch.softmax(best / live.log_temperature.exp().detach(), 0)
    assert (weights * (10 * weights).log()).sum().item() == pytest.approx(0.1, rel=0.02)
