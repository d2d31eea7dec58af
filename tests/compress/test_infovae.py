"""The InfoVAE: its prior term against closed forms and sampling, its training against what it must learn."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from etude.compress import autoencoder_training, fitting
from etude.compress.autoencoder import Autoencoder
from etude.compress.autoencoder_training import MatchPrior
from etude.compress.explained import Explained
from etude.compress.fitting import FitStepper, Steps
from etude.compress.material import Material
from etude.compress.methods.infovae import Infovae
from etude.compress.prior import expected_kernel, mmd_of_collapse, mmd_to_normal
from etude.compress.recipes import Compress
from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.run import Draft
from etude.core.seeds import stream
from etude.evals.recipes import Record
from etude.train.loop import advance
from etude.train.recipes import Train

QUICK = Infovae(latent=3, steps=150, batch=128)


@pytest.fixture
def draft(tmp_path: Path, trained: Train) -> Draft:
    return Draft(tmp_path / "fit.partial", Record(trained, "L0.attn.out").resolve())


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def train_autoencoder(method: Infovae, data: Tensor, seed: int, run: Draft) -> Autoencoder:
    codec = method.fit(Material(data), seed, run)
    assert isinstance(codec, Autoencoder)
    return codec


def stepper_of(method: Infovae, codec: Autoencoder, data: Tensor) -> FitStepper:
    x = codec.standard(data)
    steps = Steps(method.steps, method.batch, method.rate)
    return FitStepper(MatchPrior(codec, method.prior, method.bandwidth), steps, x, x, 0)


def share(codec: Autoencoder, data: Tensor) -> float:
    explained = Explained()
    explained.add(data, codec(data).detach())
    assert explained.share is not None
    return explained.share


def at_the_start(method: Infovae, data: Tensor) -> float:
    codec = Autoencoder(data.shape[1], method.latent, 2 * data.shape[1])
    codec.start_at_principal_components(data, torch.Generator().manual_seed(0))
    return share(codec, data)


# The prior's term


def collapsed(size: int, bandwidth: float) -> float:
    s = bandwidth * size
    return 1 + (s / (s + 2)) ** (size / 2) - 2 * (s / (s + 1)) ** (size / 2)


REFERENCE = {20: (0.905287, 2.6e-3), 200: (0.990050, 2.5e-5)}
"""Of the kernel exp(-mean squared difference / d), by d: what it is of two draws from the prior, and what collapse
costs. Its variance is d²/2, so its bandwidth d/2."""


@pytest.mark.parametrize("size", REFERENCE)
def test_a_kernel_as_wide_as_the_reference_does_not_see_a_collapse(size: int) -> None:
    expected, cost = REFERENCE[size]
    assert expected_kernel(size**2 / 2, 2.0, size) == pytest.approx((1 + 4 / size**2) ** (-size / 2), rel=1e-9)
    assert expected_kernel(size**2 / 2, 2.0, size) == pytest.approx(expected, abs=1e-6)
    assert mmd_of_collapse(size, size / 2) == pytest.approx(cost, rel=0.03)
    assert mmd_to_normal(torch.zeros(64, size, dtype=torch.float64), size / 2).item() == pytest.approx(
        mmd_of_collapse(size, size / 2), rel=1e-6
    )
    assert mmd_of_collapse(size, 2.0) > 15 * cost


@pytest.mark.parametrize(("size", "stretch", "shift"), [(1, 1.0, 0.0), (3, 0.5, 1.0), (6, 2.0, 0.3)])
def test_the_expectation_of_the_kernel_is_that_of_draws(size: int, stretch: float, shift: float) -> None:
    draw, variance = np.random.default_rng(0), 2.0 * size
    away = stretch * draw.normal(size=(400_000, size)) + shift - draw.normal(size=(400_000, size))
    kernel = np.exp(-(away**2).sum(1) / (2 * variance))
    found = expected_kernel(variance, stretch**2 + 1, size, away=size * shift**2)
    assert found == pytest.approx(kernel.mean(), abs=float(5 * kernel.std() / math.sqrt(len(kernel))))


@pytest.mark.parametrize(("stretch", "shift"), [(1.0, 0.0), (1.0, 0.7), (0.4, 0.0), (1.6, 0.3)])
def test_a_large_gaussian_sample_comes_to_the_closed_form(stretch: float, shift: float) -> None:
    size, bandwidth = 4, 2.0
    s, away = bandwidth * size, size * shift**2
    exact = (
        expected_kernel(s, 2 * stretch**2, size)
        - 2 * expected_kernel(s, stretch**2 + 1, size, away)
        + expected_kernel(s, 2.0, size)
    )
    found = [mmd_to_normal(stretch * drawn(500, size, seed=n) + shift, bandwidth).item() for n in range(20)]
    assert np.mean(found) == pytest.approx(exact, abs=float(5 * np.std(found)) / math.sqrt(20))


@pytest.mark.parametrize("size", [1, 5, 20, 200])
@pytest.mark.parametrize("bandwidth", [0.5, 2.0])
def test_a_collapsed_sample_has_its_closed_form(size: int, bandwidth: float) -> None:
    found = mmd_to_normal(torch.zeros(64, size, dtype=torch.float64), bandwidth)
    assert found.item() == pytest.approx(collapsed(size, bandwidth), rel=1e-9)


@pytest.mark.parametrize("size", [20, 200])
def test_collapse_costs_the_same_in_many_dimensions(size: int) -> None:
    assert mmd_to_normal(torch.zeros(64, size), 2.0).item() == pytest.approx(0.05, abs=0.003)


@pytest.mark.parametrize("size", [1, 5, 40])
def test_a_normal_sample_is_at_no_distance(size: int) -> None:
    found = np.array([mmd_to_normal(drawn(64, size, seed=seed), 2.0).item() for seed in range(200)])
    error = found.std() / math.sqrt(len(found))
    assert abs(found.mean()) < 4 * error
    assert error < 2e-3


@pytest.mark.parametrize(("size", "stretch", "shift"), [(2, 1.0, 1.0), (5, 0.3, 0.0), (5, 2.0, 0.5)])
def test_against_a_sampled_prior(size: int, stretch: float, shift: float) -> None:
    """Every expectation by looping over pairs, the prior's by drawing from it."""
    bandwidth, draw = 2.0, np.random.default_rng(1)
    z = stretch * draw.normal(size=(60, size)) + shift
    prior, other = draw.normal(size=(2, 200_000, size))

    def k(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.exp(-((a - b) ** 2).sum(-1) / (2 * bandwidth * size))

    within = np.mean([k(z[i], z[j]) for i in range(60) for j in range(60) if i != j])
    across = np.mean([k(one, prior).mean() for one in z])
    slow = within - 2 * across + k(prior, other).mean()
    assert mmd_to_normal(torch.from_numpy(z), bandwidth).item() == pytest.approx(slow, abs=3e-3)


def test_its_gradient_is_right() -> None:
    z = drawn(6, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: 3 * mmd_to_normal(z, 2.0), (z,))


def test_a_second_gradient_is_refused() -> None:
    z = drawn(6, 3).requires_grad_()
    (first,) = torch.autograd.grad(mmd_to_normal(z, 2.0) * z.sum(), z, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


# Training

KINDS = {
    "gaussian": lambda: drawn(1500, 12) @ drawn(12, 12, seed=1),
    "heavy tails": lambda: (drawn(1500, 12) / drawn(1500, 1, seed=2).abs().clamp_min(0.2)) @ drawn(12, 12, seed=1),
    "clusters": lambda: 4 * drawn(5, 12)[torch.arange(1500) % 5] + 0.3 * drawn(1500, 12, seed=3),
    "far from zero": lambda: drawn(1500, 12) @ drawn(12, 12, seed=1) + 100,
    "tiny": lambda: 1e-4 * drawn(1500, 12) @ drawn(12, 12, seed=1),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("latent", [1, 5])
def test_training_does_not_fall_below_the_principal_components(kind: str, latent: int, draft: Draft) -> None:
    data = KINDS[kind]()
    method = Infovae(latent=latent, steps=150, batch=128)
    before = at_the_start(method, data)
    after = share(train_autoencoder(method, data, 0, draft), data)
    assert after > before - 0.02


def test_it_starts_at_the_principal_components() -> None:
    data = KINDS["gaussian"]()
    variances = torch.linalg.eigvalsh(torch.cov(data.double().T)).flip(0)
    codec = Autoencoder(12, 4, 24)
    codec.start_at_principal_components(data, torch.Generator())
    assert share(codec, data) == pytest.approx(float(variances[:4].sum() / variances.sum()), abs=1e-5)
    code = codec.encode(data)
    torch.testing.assert_close(torch.cov(code.T, correction=0), torch.eye(4), atol=1e-3, rtol=0)


def test_a_planted_subspace_is_found(draft: Draft) -> None:
    data = drawn(2000, 3) @ drawn(3, 16, seed=1) + 0.01 * drawn(2000, 16, seed=2) + 7
    assert share(train_autoencoder(QUICK, data, 0, draft), data) > 0.99


def test_a_planted_curve_takes_one_number_where_pca_takes_more(draft: Draft) -> None:
    t = drawn(2000, 1)
    data = torch.cat([t, t**2, torch.sin(2 * t)], 1) @ drawn(3, 10, seed=1)
    method = Infovae(latent=1, steps=400, batch=256, rate=5e-3)
    assert share(train_autoencoder(method, data, 0, draft), data) > at_the_start(method, data) + 0.1


def test_latents_come_near_the_prior(draft: Draft) -> None:
    data = KINDS["clusters"]() @ drawn(12, 12, seed=5)
    method = Infovae(latent=2, steps=300, batch=256, prior=10.0)
    drawn_to = train_autoencoder(method, data, 0, draft).encode(data)
    start = Autoencoder(12, 2, 24)
    start.start_at_principal_components(data, torch.Generator())
    assert mmd_to_normal(drawn_to, 2.0) < 0.5 * mmd_to_normal(start.encode(data), 2.0)


def test_without_a_prior_it_is_a_plain_autoencoder(draft: Draft, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same weights come out, whatever the prior's term would say."""
    data, method = KINDS["gaussian"](), Infovae(latent=2, prior=0.0, steps=20, batch=64)
    first = train_autoencoder(method, data, 0, draft).state_dict()
    monkeypatch.setattr(autoencoder_training, "mmd_to_normal", lambda z, bandwidth: (z**2).sum())
    again = train_autoencoder(method, data, 0, Draft(draft.path.with_name("b.partial"), draft.recipe)).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    weighed = train_autoencoder(
        Infovae(latent=2, prior=1.0, steps=20, batch=64),
        data,
        0,
        Draft(draft.path.with_name("c.partial"), draft.recipe),
    ).state_dict()
    assert not torch.equal(first["read.W"], weighed["read.W"])


def test_the_objective_is_the_lost_share_and_the_prior(draft: Draft) -> None:
    data, method = KINDS["gaussian"](), Infovae(latent=2, prior=0.5, steps=10, batch=2000)
    codec = Autoencoder(12, 2, 24)
    codec.start_at_principal_components(data, torch.Generator())
    row = stepper_of(method, codec, data).step(0)
    assert row["loss"] == pytest.approx(row["lost"] + 0.5 * row["mmd"], rel=1e-5)
    assert row["lost"] == pytest.approx(1 - at_the_start(method, data), abs=0.03)  # a batch drawn with replacement


def test_every_step_draws_another_batch() -> None:
    data, method = KINDS["gaussian"](), Infovae(latent=2, rate=1e-12, steps=30, batch=16)
    codec = Autoencoder(12, 2, 24)
    codec.start_at_principal_components(data, torch.Generator())
    stepper = stepper_of(method, codec, data)
    assert len({stepper.step(number)["lost"] for number in range(30)}) == 30
    assert stepper.step(7)["lost"] == pytest.approx(stepper_of(method, codec, data).step(7)["lost"])


def test_no_steps_give_principal_components(draft: Draft) -> None:
    data = KINDS["gaussian"]()
    method = Infovae(latent=4, steps=0)
    assert share(train_autoencoder(method, data, 0, draft), data) == pytest.approx(at_the_start(method, data))


def test_data_without_variance_trains(draft: Draft) -> None:
    data = torch.full((200, 6), 3.0)
    codec = train_autoencoder(Infovae(latent=2, steps=5, batch=32), data, 0, draft)
    torch.testing.assert_close(codec(data), data, atol=0.05, rtol=0)


def test_a_dimension_that_is_dead_where_it_is_fitted_does_not_shout_elsewhere() -> None:
    """Two directions of variance about 1, and a third that only other text uses, by as much."""
    data = torch.cat([drawn(800, 2), torch.zeros(800, 1)], 1)
    codec = Autoencoder(3, 3, 6)
    codec.start_at_principal_components(data, torch.Generator())
    code = codec.encode(torch.tensor([[0.0, 0.0, 1.0]]))
    assert code.abs().max() < 1.2e3  # a thousand times the greatest spread, where it was a million
    torch.testing.assert_close(codec(data), data, atol=1e-4, rtol=0)


def test_training_reads_and_writes_as_the_codec_does(draft: Draft) -> None:
    data, method = KINDS["far from zero"](), Infovae(latent=2, steps=10, batch=1500)
    codec = train_autoencoder(method, data, 0, draft).requires_grad_(True)
    stepper = stepper_of(method, codec, data)
    stepper.draw.manual_seed(stream(0, "batch", 3))
    batch = data[torch.randint(len(data), (len(data),), generator=stepper.draw)]
    lost = ((codec(batch) - batch) ** 2).mean() / codec.get_buffer("scale") ** 2
    assert stepper.step(3)["lost"] == pytest.approx(lost.item(), rel=1e-3)


def test_more_latents_than_the_data_have_dimensions(draft: Draft) -> None:
    data = drawn(1500, 2) @ drawn(2, 12, seed=1)
    codec = train_autoencoder(Infovae(latent=6, steps=60, batch=128), data, 0, draft)
    assert share(codec, drawn(500, 2, seed=9) @ drawn(2, 12, seed=1)) > 0.98


def test_resuming_is_exact(draft: Draft, monkeypatch: pytest.MonkeyPatch) -> None:
    data, method = KINDS["gaussian"](), Infovae(latent=3, steps=30, batch=64)
    whole = train_autoencoder(method, data, 0, draft)
    monkeypatch.setattr(fitting, "advance", partial(advance, save_seconds=0.0))
    broken = Draft(draft.path.with_name("broken.partial"), draft.recipe)
    taken, step = [], FitStepper.step

    def dies(self: FitStepper, number: int) -> dict[str, float]:
        if number == 17 and 17 not in taken:
            taken.append(number)
            raise MemoryError("planted")
        taken.append(number)
        return step(self, number)

    monkeypatch.setattr(FitStepper, "step", dies)
    with pytest.raises(MemoryError, match="planted"):
        train_autoencoder(method, data, 0, broken)
    resumed = train_autoencoder(method, data, 0, Draft(broken.path, broken.recipe))
    assert 0 < taken[18] <= 17 and taken[-1] == 29  # it went on from a checkpoint
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name

    def told(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{key: value for key, value in row.items() if key != "timing"} for row in rows]

    assert told(broken.rows()) == told(draft.rows())


def test_a_seed_decides_everything(draft: Draft) -> None:
    data, method = KINDS["gaussian"](), Infovae(latent=3, steps=10, batch=64)
    runs = [Draft(draft.path.with_name(f"{i}.partial"), draft.recipe) for i in range(3)]
    torch.manual_seed(1)
    first = train_autoencoder(method, data, 5, runs[0])
    torch.manual_seed(2)
    again = train_autoencoder(method, data, 5, runs[1])
    other = train_autoencoder(method, data, 6, runs[2])
    assert torch.equal(first.read.W, again.read.W)
    assert not torch.equal(first.read.W, other.read.W)


def test_the_record_and_the_result_tell_the_prior_beside_what_collapse_would_cost(lab: Lab, trained: Train) -> None:
    method = Infovae(latent=3, steps=20, batch=64)
    run = lab.run(Compress(trained, "L0.mlp.out", method, fit_tokens=640, evaluate_tokens=320, sequences=0))
    last = run.record[-1]
    assert all("mmd" in row for row in run.record[1:]) and "mmd_fitted" in last
    assert last["mmd_collapsed"] == pytest.approx(collapsed(3, 2.0))
    told = run.result["training"]
    assert (told["mmd_fitted"], told["mmd_collapsed"]) == (last["mmd_fitted"], last["mmd_collapsed"])
    assert 0 < told["explained_fitted"] <= 1


def test_the_prior_that_is_told_is_of_all_positions_together() -> None:
    """Rows of windows of 64: at one position all are alike, all positions together are normal."""
    data = drawn(64, 6)[torch.arange(16384) % 64] + 0.01 * drawn(16384, 6, seed=1)
    codec = Autoencoder(6, 2, 0)
    codec.start_at_principal_components(data, torch.Generator())
    x = codec.standard(data)
    with torch.no_grad():
        found = MatchPrior(codec, 1.0, 2.0).found(x, x)
    whole = mmd_to_normal(codec.encode(data[:4096]).detach(), 2.0).item()
    assert found["mmd_fitted"] == pytest.approx(whole, abs=3e-3)


@pytest.mark.parametrize("fields", [{"prior": -1.0}, {"bandwidth": 0.0}, {"batch": 1}, {"steps": -1}, {"hidden": -1.0}])
def test_impossible_choices_are_one_line(fields: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        Infovae(**fields)
    name, value = next(iter(fields.items()))
    assert f"infovae.{name} = {value} is too small" in str(caught.value) and "\n" not in str(caught.value)
