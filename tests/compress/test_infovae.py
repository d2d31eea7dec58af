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

from etude.compress import autoencoder
from etude.compress.autoencoder import Autoencoder, AutoencoderStepper, mmd_to_normal, train_autoencoder
from etude.compress.explained import Explained
from etude.compress.methods.infovae import Infovae
from etude.core.errors import UsageError
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
    assert torch.autograd.gradcheck(lambda z: mmd_to_normal(z, 2.0), (z,))


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
    monkeypatch.setattr(autoencoder, "mmd_to_normal", lambda z, bandwidth: (z**2).sum())
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
    row = AutoencoderStepper(method, codec, data, 0).step(0)
    assert row["loss"] == pytest.approx(row["lost"] + 0.5 * row["mmd"], rel=1e-5)
    assert row["lost"] == pytest.approx(1 - at_the_start(method, data), abs=0.03)  # a batch drawn with replacement


def test_every_step_draws_another_batch() -> None:
    data, method = KINDS["gaussian"](), Infovae(latent=2, rate=1e-12, steps=30, batch=16)
    codec = Autoencoder(12, 2, 24)
    codec.start_at_principal_components(data, torch.Generator())
    stepper = AutoencoderStepper(method, codec, data, 0)
    assert len({stepper.step(number)["lost"] for number in range(30)}) == 30
    assert stepper.step(7)["lost"] == pytest.approx(AutoencoderStepper(method, codec, data, 0).step(7)["lost"])


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
    stepper = AutoencoderStepper(method, codec, data, 0)
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
    monkeypatch.setattr(autoencoder, "advance", partial(advance, save_seconds=0.0))
    broken = Draft(draft.path.with_name("broken.partial"), draft.recipe)
    taken, step = [], AutoencoderStepper.step

    def dies(self: AutoencoderStepper, number: int) -> dict[str, float]:
        if number == 17 and 17 not in taken:
            taken.append(number)
            raise MemoryError("planted")
        taken.append(number)
        return step(self, number)

    monkeypatch.setattr(AutoencoderStepper, "step", dies)
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


@pytest.mark.parametrize("fields", [{"prior": -1.0}, {"bandwidth": 0.0}, {"batch": 1}, {"steps": -1}, {"hidden": 0.0}])
def test_impossible_choices_are_one_line(fields: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        Infovae(**fields)
    name, value = next(iter(fields.items()))
    assert f"{name} {value}" in str(caught.value) and "\n" not in str(caught.value)
