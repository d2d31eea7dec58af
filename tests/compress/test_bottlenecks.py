"""The other bottlenecks: against principal components, ridge regression and the closed forms of linear codes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from etude.compress import autoencoder
from etude.compress.autoencoder_training import Reconstruct, Vary, train_autoencoder
from etude.compress.codec import Codec
from etude.compress.explained import Explained
from etude.compress.fitting import JUDGED, FitStepper, Objective, Steps, some
from etude.compress.linear import principal_directions
from etude.compress.material import Material
from etude.compress.methods.autoencoder import Autoencoder
from etude.compress.methods.base import Method
from etude.compress.methods.beta_vae import BetaVae
from etude.compress.methods.denoising import Denoising
from etude.compress.methods.infovae import Infovae
from etude.compress.prior import kl_to_normal
from etude.core.errors import UsageError
from etude.core.run import Draft
from etude.evals.recipes import Record
from etude.train.recipes import Train


@pytest.fixture
def draft(tmp_path: Path, trained: Train) -> Draft:
    return Draft(tmp_path / "fit.partial", Record(trained, "L0.attn.out").resolve())


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def falling(n: int = 3000, width: int = 10) -> Tensor:
    """Gaussian rows whose variances fall by half from one direction to the next, in a random basis, far from zero."""
    basis = torch.linalg.qr(drawn(width, width, seed=1)).Q
    return (drawn(n, width) * 2.0 ** (-torch.arange(width) / 2)) @ basis + 5


def share(codec: Codec, data: Tensor) -> float:
    explained = Explained()
    explained.add(data, codec(data).detach())
    assert explained.share is not None
    return explained.share


def components(data: Tensor, size: int) -> float:
    variances = principal_directions(data)[2]
    return float(variances[:size].sum() / variances.sum())


# The plain autoencoder


@pytest.mark.parametrize("latent", [1, 3, 8])
def test_a_linear_autoencoder_comes_to_the_principal_components_and_never_beyond(latent: int, draft: Draft) -> None:
    data = falling()
    codec = Autoencoder(latent=latent, linear=True, steps=300, batch=256).fit(Material(data), 0, draft)
    best = components(data, latent)
    assert best - 1e-3 < share(codec, data) <= best + 1e-6


def test_a_linear_autoencoder_finds_them_from_anywhere() -> None:
    data = falling()
    codec = autoencoder.Autoencoder(10, 3, 0)
    codec.start_at_principal_components(data, torch.Generator())
    with torch.no_grad():
        for weight, seed in ((codec.read.W, 1), (codec.write.W, 2)):
            weight.copy_(0.3 * drawn(*weight.shape, seed=seed))
    x = codec.standard(data)
    assert share(codec, data) < 0.5
    stepper = FitStepper(Reconstruct(codec), Steps(800, 512, 1e-2), x, x, 0)
    for number in range(800):
        stepper.step(number)
    best = components(data, 3)
    assert best - 1e-3 < share(codec, data) <= best + 1e-6


def test_hidden_layers_are_of_use_on_a_curve_and_linear_maps_are_not(draft: Draft) -> None:
    t = drawn(2000, 1)
    data = torch.cat([t, t**2, torch.sin(2 * t)], 1) @ drawn(3, 10, seed=1)
    found = {}
    for linear in (True, False):
        method = Autoencoder(latent=1, linear=linear, steps=300, batch=256, rate=5e-3)
        found[linear] = share(method.fit(Material(data), 0, Draft(draft.path / str(linear), draft.recipe)), data)
    assert found[False] > found[True] + 0.1


def test_a_linear_codec_holds_two_maps_and_nothing_else(draft: Draft) -> None:
    codec = Autoencoder(latent=3, linear=True, steps=0).fit(Material(falling()), 0, draft)
    assert set(codec.state_dict()) == {"read.W", "read.b", "write.W", "write.b", "centre", "scale"}
    assert codec.cost().parameters == 2 * 3 * 10 + 3 + 10
    assert codec.cost().flops == 2 * 2 * 3 * 10


# Denoising


def test_a_linear_denoiser_shrinks_each_direction_as_ridge_regression_does(draft: Draft) -> None:
    """Reading x + noise, the best linear map to x takes v / (v + noise²) of a direction of variance v."""
    data, noise, width = falling(8000), 0.8, 10
    steps = Steps(1500, 1024, 3e-3)
    codec = train_autoencoder(data, width, 0.0, lambda codec: Reconstruct(codec, noise), steps, 0, draft)
    centre, directions, variances = principal_directions(data)
    along = (codec(data).double() - centre) @ directions
    found = (along * ((data.double() - centre) @ directions)).mean(0) / variances
    v = variances / variances.mean()
    torch.testing.assert_close(found, v / (v + noise**2), atol=0.03, rtol=0)


def test_without_noise_a_denoiser_is_the_plain_autoencoder(draft: Draft) -> None:
    data = falling(500)
    same: dict[str, Any] = {"latent": 2, "steps": 20, "batch": 64}
    plain = Autoencoder(**same).fit(Material(data), 0, draft).state_dict()
    for noise, equal in ((0.0, True), (0.3, False)):
        run = Draft(draft.path / str(noise), draft.recipe)
        found = Denoising(**same, noise=noise).fit(Material(data), 0, run).state_dict()
        assert torch.equal(plain["write.W"], found["write.W"]) == equal


# The beta-VAE


def test_the_divergence_is_that_of_the_library() -> None:
    mean, log_variance = drawn(50, 4).double(), drawn(50, 4, seed=1).double()
    theirs = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(kl_to_normal(mean, log_variance), theirs)
    assert kl_to_normal(torch.zeros(1, 1), torch.zeros(1, 1)).item() == 0


def test_a_linear_code_has_the_rate_and_the_distortion_of_its_closed_form(draft: Draft) -> None:
    """The variational linear code is probabilistic PCA: with decoder variance beta, a direction of variance v above it
    tells ½ log(v / beta) and loses, by the mean code, (beta / v)² of v; one below it tells nothing and loses all."""
    data, beta = falling(4000, 6), 0.25
    codec = train_autoencoder(data, 6, 0.0, lambda codec: Vary(codec, beta), Steps(1000, 512, 2e-2), 0, draft)
    v = principal_directions(data)[2]
    v = v / v.mean()
    kept = v[v > beta]
    told = draft.rows()[-1]
    assert told["active"] == len(kept) == 4
    assert told["rate_bits"] == pytest.approx(float((kept / beta).log2().sum() / 2), rel=0.01)
    exact = float((kept * (1 - (beta / kept) ** 2)).sum() / v.sum())
    assert share(codec, data) == pytest.approx(exact, abs=3e-3)


def test_latents_that_cost_more_than_they_tell_collapse(draft: Draft) -> None:
    rates = {}
    for beta in (0.01, 10.0):
        run = Draft(draft.path / str(beta), draft.recipe)
        BetaVae(latent=3, beta=beta, steps=300, batch=128, rate=1e-2).fit(Material(falling()), 0, run)
        rates[beta] = run.rows()[-1]
    assert rates[0.01]["active"] == 3 and rates[0.01]["rate_bits"] > 5
    assert rates[10.0]["active"] == 0 and rates[10.0]["rate_bits"] < 0.1


def test_the_code_at_use_is_the_mean(draft: Draft) -> None:
    data = falling(500)
    codec = BetaVae(latent=2, steps=10, batch=64).fit(Material(data), 0, draft)
    assert torch.equal(codec(data), codec(data))
    assert not any("log_variance" in name for name in codec.state_dict())


def test_the_loss_is_the_share_that_is_lost_and_the_price_of_what_is_told() -> None:
    data, beta = falling(500), 0.3
    codec = autoencoder.Autoencoder(10, 2, 0)
    codec.start_at_principal_components(data, torch.Generator())
    x = codec.standard(data)
    row = FitStepper(Vary(codec, beta), Steps(10, 64, 1e-3), x, x, 0).step(0)
    assert row["loss"] == pytest.approx(row["lost"] + 2 * beta / 10 * row["kl"], rel=1e-5)
    assert row["kl"] > 0


# All of them

KINDS: list[type[Method]] = [Autoencoder, BetaVae, Denoising, Infovae]


@pytest.mark.parametrize("kind", KINDS)
def test_each_begins_at_the_principal_components(kind: type[Method], draft: Draft) -> None:
    data, fields = falling(), {"latent": 4, "steps": 0}
    assert share(kind(**fields).fit(Material(data), 0, draft), data) == pytest.approx(components(data, 4), abs=1e-5)


@pytest.mark.parametrize("make", [lambda c: Vary(c, 0.1), lambda c: Reconstruct(c, 0.5)], ids=["beta-vae", "denoising"])
def test_what_is_drawn_is_the_same_after_a_checkpoint(make: Any) -> None:
    data = falling(400)

    def stepper() -> FitStepper:
        codec = autoencoder.Autoencoder(10, 2, 6)
        codec.start_at_principal_components(data, torch.Generator().manual_seed(0))
        objective: Objective = make(codec)
        x = codec.standard(data)
        return FitStepper(objective, Steps(30, 64, 1e-2), x, x, 0)

    whole, broken, resumed = stepper(), stepper(), stepper()
    rows = [whole.step(number) for number in range(30)]
    for number in range(13):
        broken.step(number)
    resumed.load(broken.state())
    assert [resumed.step(number) for number in range(13, 30)] == rows[13:]
    for name, value in whole.objective.state_dict().items():
        assert torch.equal(value, resumed.objective.state_dict()[name]), name


def test_the_rate_warms_up_and_falls_to_nothing() -> None:
    data = falling(100)
    codec = autoencoder.Autoencoder(10, 2, 0)
    stepper = FitStepper(Reconstruct(codec), Steps(100, 8, 1e-2), data, data, 0)
    rates = []
    for number in range(100):
        stepper.step(number)
        rates.append(stepper.optimiser.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(1e-2 / 50)
    assert rates[:10] == sorted(rates[:10]) and rates[49:] == sorted(rates[49:], reverse=True)
    assert rates[75] == pytest.approx(1e-2 * 0.5 * (1 + math.cos(0.75 * math.pi)))
    assert rates[99] < 1e-5


def test_rows_that_are_judged_are_the_same_of_what_is_read_and_written() -> None:
    rows = torch.arange(3.0 * JUDGED)[:, None]
    found = some(rows)
    assert len(found) == JUDGED == len(found.unique())
    assert torch.equal(some(2 * rows), 2 * found)
    assert torch.bincount(found.long().flatten() % 64, minlength=64).min() > 0.7 * JUDGED / 64
    assert some(rows[:5]).tolist() == rows[:5].tolist()


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [(Autoencoder, "hidden", -1.0), (BetaVae, "beta", 0.0), (Denoising, "noise", -0.1), (Autoencoder, "batch", 0)],
)
def test_impossible_choices_are_one_line(kind: type[Method], field: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"^{kind.name}\.{field} = {value} is too small: it is [^\n]+$"):
        kind(**{field: value})
