"""Scores: sums by window, the windows chosen, and bits per byte."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from etude.evals import loss as module
from etude.evals.loss import batch_for, bits_per_byte, chosen_windows, joined, score, tally
from etude.evals.statistics import Estimate
from etude.models.architectures.decoder import Decoder
from etude.text.batches import IGNORE, Batch, Examples

B, T, V = 5, 7, 9


def some(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(B, T, V, generator=generator) * 3
    targets = torch.randint(V, (B, T), generator=generator)
    targets[torch.rand(B, T, generator=generator) < 0.3] = IGNORE
    targets[0, -1], targets[1, -1] = 3, IGNORE
    return logits, targets


def test_a_tally_is_the_slow_loop():
    logits, targets = some()
    found = tally(logits, targets)
    for b in range(B):
        loss, right, count = 0.0, 0, 0
        for t in range(T):
            if targets[b, t] != IGNORE:
                scores = logits[b, t].double()
                loss += math.log(sum(math.exp(s) for s in scores.tolist())) - scores[targets[b, t]].item()
                right += int(max(range(V), key=lambda v: scores[v].item()) == targets[b, t])
                count += 1
        assert found.loss[b] == pytest.approx(loss, rel=1e-5)
        assert (found.right[b], found.count[b]) == (right, count)


def test_the_last_position():
    logits, targets = some()
    found = tally(logits, targets)
    assert found.last_count.tolist() == [float(targets[b, -1] != IGNORE) for b in range(B)]
    assert found.last_loss[0] == pytest.approx(-logits[0, -1].log_softmax(-1)[3].item(), rel=1e-5)
    assert (found.last_loss[1], found.last_right[1]) == (0.0, 0.0)


def test_nothing_at_an_ignored_place_matters():
    logits, targets = some()
    changed = torch.where((targets == IGNORE)[..., None], torch.randn(V) * 100, logits)
    for name, sums in tally(logits, targets).arrays().items():
        assert np.array_equal(sums, tally(changed, targets).arrays()[name]), name


def test_rows_in_bf16_are_summed_in_fp32():
    logits, targets = some()
    assert tally(logits.bfloat16(), targets).loss == pytest.approx(tally(logits.bfloat16().float(), targets).loss)


def test_a_summary():
    scores = joined([tally(*some(0)), tally(*some(1))])
    summary = scores.summary(tokens_per_byte=0.25)
    assert scores.loss.shape == (2 * B,)
    assert summary["tokens"] == scores.count.sum()
    assert summary["loss"]["mean"] == pytest.approx(scores.loss.sum() / scores.count.sum())
    assert summary["accuracy"]["mean"] == pytest.approx(scores.right.sum() / scores.count.sum())
    assert summary["bits_per_byte"]["mean"] == pytest.approx(summary["loss"]["mean"] * 0.25 / math.log(2))
    assert summary["last_position"]["loss"]["n"] == scores.last_count.sum()


def test_no_last_position_where_none_is_predicted():
    logits, targets = some()
    targets[:, -1] = IGNORE
    assert "last_position" not in tally(logits, targets).summary(1.0)


def test_bits_per_byte():
    uniform = Estimate(math.log(256), math.log(256), math.log(256), 4)
    assert bits_per_byte(uniform, tokens_per_byte=1.0).mean == pytest.approx(8.0)
    assert bits_per_byte(Estimate(2.0, 1.0, 3.0, 4), tokens_per_byte=0.5).high == pytest.approx(1.5 / math.log(2))


def fake(windows: int, context: int) -> Examples:
    class Fake:
        vocabulary = V

        def __init__(self) -> None:
            self.context = context

        def __len__(self) -> int:
            return windows

        def batch(self, indices: np.ndarray, draw: int = 0) -> Batch:
            raise NotImplementedError

    return Fake()


@given(windows=st.integers(1, 5000), context=st.integers(1, 300), tokens=st.integers(0, 100_000))
def test_windows_are_spread_evenly_from_end_to_end(windows: int, context: int, tokens: int):
    chosen = chosen_windows(fake(windows, context), tokens)
    assert len(set(chosen.tolist())) == len(chosen)
    assert chosen.min() >= 0 and chosen.max() < windows
    if tokens == 0:
        assert chosen.tolist() == list(range(windows))
    else:
        assert len(chosen) == max(1, min(windows, tokens // context))
    if len(chosen) > 1:
        gaps = np.diff(chosen)
        assert (chosen[0], chosen[-1]) == (0, windows - 1)
        assert gaps.min() >= 1 and gaps.max() - gaps.min() <= 2
    assert np.array_equal(chosen, chosen_windows(fake(windows, context), tokens))


def test_batches_keep_the_logits_small():
    assert batch_for(257, 64) == 64
    assert batch_for(50257, 128) == 2
    assert batch_for(10**9, 128) == 1


@pytest.fixture
def held_out(rows: Callable[..., Examples]) -> Examples:
    tokens = np.random.default_rng(0).integers(0, V, (23, T + 1))
    return rows(tokens[:, :-1], np.where(tokens[:, 1:] == 0, IGNORE, tokens[:, 1:]), vocabulary=V)


def test_how_many_at_once_does_not_matter(held_out: Examples, monkeypatch: pytest.MonkeyPatch):
    model = Decoder(layers=1, width=8, heads=2, feedforward=8, context=T, dropout=0.5).build(V).train()
    windows = np.arange(23)
    seen = []
    whole = score(model, held_out, windows, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(23, 23)]
    for size in (1, 4, 22):
        monkeypatch.setattr(module, "batch_for", lambda vocabulary, context, size=size: size)
        part = score(model, held_out, windows)
        for name, sums in whole.arrays().items():
            np.testing.assert_allclose(part.arrays()[name], sums, rtol=1e-5, err_msg=name)
    assert model.training, "it trains on as before"


def test_scores_are_by_window(held_out: Examples):
    model = Decoder(layers=0, width=8, heads=1, feedforward=0, context=T).build(V)
    every, some_ = score(model, held_out, np.arange(23)), score(model, held_out, np.array([20, 3]))
    np.testing.assert_allclose(some_.loss, every.loss[[20, 3]], rtol=1e-6)


def test_bf16_is_close(held_out: Examples):
    model = Decoder(layers=1, width=8, heads=2, feedforward=8, context=T).build(V)
    exact, rough = score(model, held_out, np.arange(23)), score(model, held_out, np.arange(23), precision="bf16")
    assert not np.array_equal(exact.loss, rough.loss)
    np.testing.assert_allclose(rough.loss, exact.loss, rtol=1e-2)
