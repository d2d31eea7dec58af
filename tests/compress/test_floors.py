"""Floors that are drawn: they have the distribution that they should, say nothing else, and are the same every time."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from etude.compress.codec import Text
from etude.compress.compressor import Compressor
from etude.compress.explained import Explained
from etude.compress.floors import Noisy, Resampled, mixed, scattered
from etude.compress.linear import constant
from etude.compress.material import Material
from etude.compress.methods.noise import Noise
from etude.compress.methods.resample import Resample
from etude.compress.score import Host, harm
from etude.core.errors import UsageError
from etude.core.run import Draft
from etude.evals.recipes import Record
from etude.models.transformer import Transformer
from etude.text.batches import Examples
from etude.train.recipes import Train

Split = tuple[Examples, np.ndarray]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def text(n: int = 40, length: int = 50, seed: int = 0) -> Text:
    """Return windows of tokens drawn from 200."""
    return Text.of(torch.randint(200, (n, length), generator=torch.Generator().manual_seed(seed)))


def share(x: Tensor, y: Tensor) -> float:
    explained = Explained()
    explained.add(x, y)
    assert explained.share is not None
    return explained.share


@pytest.fixture
def run(tmp_path: Path, trained: Train) -> Draft:
    return Draft(tmp_path / "fit.partial", Record(trained, "L0.attn.out").resolve())


# The draw


def test_different_words_stay_different() -> None:
    words = torch.arange(1 << 18)
    found = mixed(words)
    assert len(found.unique()) == len(words)
    assert int(found.min()) >= 0 and int(found.max()) < 1 << 32


def test_each_bit_of_the_word_moves_half_of_the_bits() -> None:
    words = torch.arange(1000) * 7919
    for bit in range(32):
        moved = (mixed(words) ^ mixed(words ^ (1 << bit)))[:, None] >> torch.arange(32) & 1
        assert moved.double().mean().item() == pytest.approx(0.5, abs=0.02)


def test_draws_are_as_even_as_chance() -> None:
    """Pearson's statistic of 40,000 draws among 64 is within four deviations of what chance gives."""
    found = scattered(text(400, 100), 64)
    count = torch.bincount(found.flatten(), minlength=64).double()
    statistic = float(((count - 625) ** 2 / 625).sum())
    assert abs(statistic - 63) < 4 * math.sqrt(2 * 63)


@pytest.mark.parametrize("part", ["tokens", "before", "position"])
def test_each_part_of_the_text_moves_the_draw(part: str) -> None:
    given = text(20, 50)
    other = given._replace(**{part: getattr(given, part) + 1})
    same = (scattered(given, 1 << 20) == scattered(other, 1 << 20)).double().mean()
    assert same < 0.01


def test_neighbouring_positions_are_not_told_apart_by_a_fixed_step() -> None:
    """One token all along: draws at positions that follow each other hang together no more than by chance."""
    found = scattered(Text.of(torch.zeros(1, 4000, dtype=torch.long)), 1 << 16).double().flatten()
    together = torch.corrcoef(torch.stack((found[1:-1], found[2:])))[0, 1]
    assert abs(float(together)) < 4 / math.sqrt(4000)
    assert found[1:].diff().unique().numel() > 3000


# Another token's activation


def test_what_stands_there_is_one_that_was_recorded(run: Draft) -> None:
    data, given = drawn(300, 6), text()
    left = Resample(64).fit(Material(data), 0, run)(drawn(40, 50, 6, seed=1), given).flatten(0, 1)
    found = torch.cdist(left.double(), data.double()).amin(1)
    assert found.max() < 1e-6
    assert len(left.unique(dim=0)) == 64


def test_it_says_nothing_of_what_was_there(run: Draft) -> None:
    codec, given = Resample(64).fit(Material(drawn(300, 6)), 0, run), text()
    x = drawn(40, 50, 6, seed=1)
    assert torch.equal(codec(x, given), codec(torch.zeros_like(x), given))
    assert codec.cost().bits == 0 and codec.cost().dimensions is None


def test_it_has_the_mean_and_the_variance_of_the_data(run: Draft) -> None:
    data = drawn(4000, 5) @ drawn(5, 5, seed=1) + 3
    left = Resample(2000).fit(Material(data), 0, run)(drawn(400, 100, 5), text(400, 100)).flatten(0, 1)
    torch.testing.assert_close(left.mean(0), data.mean(0), atol=0.2, rtol=0)
    torch.testing.assert_close(torch.cov(left.T), torch.cov(data.T), atol=0.6, rtol=0.1)


def test_it_explains_minus_one(run: Draft) -> None:
    """|x - x'|² of two that are independent is twice the variance, where the mean leaves once."""
    data = drawn(8000, 5) + 3
    codec = Resample(2000).fit(Material(data[:4000]), 0, run)
    x = data[4000:].reshape(40, 100, 5)
    assert share(x, codec(x, text(40, 100))) == pytest.approx(-1, abs=0.06)


def test_another_seed_draws_others(run: Draft) -> None:
    data = drawn(300, 6)
    first, again, other = (Resample(20).fit(Material(data), seed, run).get_buffer("examples") for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert len(first.unique(dim=0)) == 20  # none is drawn twice


# Noise


def test_noise_is_as_far_from_the_mean_as_the_activation_was(run: Draft) -> None:
    data = drawn(300, 6) * 5 + 3
    codec, x = Noise(64).fit(Material(data), 0, run), drawn(40, 50, 6, seed=1) * 4
    away = codec(x, text()) - data.mean(0)
    torch.testing.assert_close(away.norm(dim=-1), (x - data.mean(0)).norm(dim=-1), rtol=1e-5, atol=1e-5)


def test_the_directions_of_noise_are_uniform(run: Draft) -> None:
    directions = Noise(20000).fit(Material(drawn(30, 4)), 0, run).get_buffer("directions")
    torch.testing.assert_close(directions.mean(0), torch.zeros(4), atol=0.02, rtol=0)
    torch.testing.assert_close(directions.T @ directions / 20000, torch.eye(4) / 4, atol=0.01, rtol=0)
    # Of a uniform point on the sphere in four dimensions, E u⁴ is 3 / (4 · 6).
    assert (directions**4).mean().item() == pytest.approx(1 / 8, abs=0.005)


def test_noise_explains_minus_one(run: Draft) -> None:
    data = drawn(4000, 5) @ drawn(5, 5, seed=1) + 3
    x = data.reshape(40, 100, 5)
    codec = Noise(2000).fit(Material(data), 0, run)
    assert share(x, codec(x, text(40, 100))) == pytest.approx(-1, abs=0.08)


def test_the_mean_stays_the_mean_under_noise(run: Draft) -> None:
    data = drawn(300, 6) + 3
    codec = Noise(8).fit(Material(data), 0, run)
    x = codec.get_buffer("centre").expand(40, 50, 6)
    assert torch.equal(codec(x, text()), x)


def test_of_noise_the_distance_alone_is_paid_for(run: Draft) -> None:
    cost = Noise(8).fit(Material(drawn(300, 6)), 0, run).cost()
    assert (cost.bits, cost.dimensions, cost.parameters) == (32.0, None, 8 * 6 + 6)


# In a model


@pytest.mark.parametrize("codec", [Resampled(drawn(64, 16)), Noisy(torch.zeros(16), drawn(64, 16))])
def test_a_window_has_the_same_draw_in_any_batch(codec: Resampled | Noisy, model: Transformer, held_out: Split) -> None:
    examples, windows = held_out
    tokens = torch.from_numpy(examples.batch(windows[:8]).inputs)
    placed = Compressor.of("L0.attn.out", codec)
    with placed.placed(model), torch.no_grad():
        whole = model(tokens)
        alone = torch.cat([model(one) for one in tokens.split(1)])
    torch.testing.assert_close(alone, whole, atol=1e-4, rtol=0)


def test_one_example_is_a_constant(model: Transformer, held_out: Split) -> None:
    host, value = Host(model, *held_out), drawn(16)
    found = [
        harm(host, Compressor.of("L1.mlp.out", codec)).to_json()["loss"]["mean"]
        for codec in (Resampled(value[None]), constant(value))
    ]
    assert found[0] == pytest.approx(found[1], abs=1e-6)


@pytest.mark.parametrize("codec", [Resampled(drawn(4, 16)), Noisy(torch.zeros(16), drawn(4, 16))])
def test_without_the_text_it_is_one_line(codec: Resampled | Noisy) -> None:
    with pytest.raises(UsageError, match=r"^\w+ draws by the text, and none was given: call it with .*$"):
        codec(drawn(5, 16))


@pytest.mark.parametrize("method", [Resample, Noise])
def test_a_draw_from_nothing_is_refused(method: type[Resample | Noise]) -> None:
    with pytest.raises(UsageError, match=r"(resample\.examples|noise\.directions) = 0 is too few: it is 1 or more"):
        method(0)


def test_more_examples_than_were_recorded_are_refused(run: Draft) -> None:
    with pytest.raises(UsageError, match=r"resample\.examples = 31 does not fit: there are 30 recorded tokens"):
        Resample(31).fit(Material(drawn(30, 6)), 0, run)
