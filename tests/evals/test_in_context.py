"""Loss by position and the in-context learning score, on a circuit that learns in context perfectly and on none."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.evals import in_context as module
from etude.evals.behaviours import repeats
from etude.evals.in_context import in_context_score, loss_curve, position_losses
from etude.evals.loss import score
from etude.evals.recipes import InContext
from etude.evals.statistics import mean
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.models.decoder_model import DecoderModel
from etude.models.planted import planted
from etude.models.recipes import Planted
from etude.text.batches import IGNORE, Examples
from etude.text.corpora.fable import Fable
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte
from etude.train.objectives.dialogue import Dialogue
from etude.train.objectives.next_token import NextToken
from etude.train.recipes import At, Train

V, T, N = 16, 31, 50
Make = Callable[..., Examples]


@pytest.fixture(scope="module")
def model() -> DecoderModel:
    return planted(V, T)


@pytest.fixture(scope="module")
def repeated(rows: Make) -> Examples:
    """Random tokens that repeat, of which the last of every third sequence are padding."""
    tokens = repeats(N, T + 1, V, seed=3).tokens
    targets = tokens[:, 1:].copy()
    targets[::3, -4:] = IGNORE
    return rows(tokens[:, :-1], targets, vocabulary=V)


def test_losses_are_those_of_each_prediction(model: DecoderModel, repeated: Examples) -> None:
    windows = np.array([7, 0, 3, 49])
    found, batch = position_losses(model, repeated, windows), repeated.batch(windows)
    assert found.dtype == np.float64 and found.shape == (4, T)
    logp = model(torch.from_numpy(batch.inputs)).detach().double().log_softmax(-1)
    for row in range(4):
        for t in range(T):
            target = batch.targets[row, t]
            wanted = math.nan if target == IGNORE else -float(logp[row, t, target])
            assert found[row, t] == pytest.approx(wanted, abs=1e-5, nan_ok=True)


def test_together_they_are_the_loss(model: DecoderModel, repeated: Examples) -> None:
    windows = np.arange(N)
    found, scores = position_losses(model, repeated, windows), score(model, repeated, windows)
    np.testing.assert_allclose(np.nansum(found, 1), scores.loss, rtol=1e-6)
    np.testing.assert_array_equal(np.isfinite(found).sum(1), scores.count)


def test_how_many_at_once_does_not_matter(
    model: DecoderModel, repeated: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    whole = position_losses(model, repeated, np.arange(N))
    monkeypatch.setattr(module, "batch_for", lambda vocabulary, context: 7)
    parts = position_losses(model, repeated, np.arange(N), progress=lambda *at: seen.append(at))
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    assert seen == [(min(done, N), N) for done in range(7, N + 7, 7)]


def test_dropout_is_off_and_the_mode_comes_back(repeated: Examples) -> None:
    drops = Decoder(layers=1, width=16, heads=2, feedforward=0, context=T, dropout=0.5).build(V, seed=0).train()
    one, other = (position_losses(drops, repeated, np.arange(5)) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert drops.training


def test_the_circuit_learns_in_context_and_a_model_that_says_nothing_does_not(
    model: DecoderModel, repeated: Examples
) -> None:
    losses = position_losses(model, repeated, np.arange(N))
    found = in_context_score(losses, early=4, late=T - 4)  # nothing has come twice after 4, all after 27
    assert found.mean < -math.log(V) and found.high < -math.log(V) and found.n == N
    flat = Decoder(layers=1, width=16, heads=2, feedforward=0, context=T).build(V, seed=0).eval()
    with flat.tapped({"unembed.W_U": torch.zeros_like}):
        even = position_losses(flat, repeated, np.arange(N))
    np.testing.assert_allclose(even[np.isfinite(even)], math.log(V), rtol=1e-6)
    assert in_context_score(even, 4, T - 4).mean == pytest.approx(0, abs=1e-9)


def test_the_score_is_paired_on_the_windows_that_have_both() -> None:
    losses = np.random.default_rng(0).normal(3, 1, (40, 12))
    losses[:, 9] = losses[:, 1] - 0.5  # the same noise: a paired difference has none
    losses[::4, 9:] = np.nan
    found = in_context_score(losses, early=2, late=10)
    assert found.mean == pytest.approx(-0.5) and found.high - found.low < 1e-9 and found.n == 30
    losses[:, 5] = np.random.default_rng(1).normal(2, 1, 40)
    assert in_context_score(losses, 6, 9) == mean(losses[:, 8] - losses[:, 5])


def test_the_curve_is_the_mean_of_each_column() -> None:
    losses = np.random.default_rng(0).normal(3, 1, (20, 5))
    losses[:8, 3] = np.nan
    losses[:, 4] = np.nan
    curve = loss_curve(losses)
    np.testing.assert_allclose(curve.mean[:4], [losses[:, t][np.isfinite(losses[:, t])].mean() for t in range(4)])
    assert curve.n.tolist() == [20, 20, 20, 12, 0]
    assert np.isnan([curve.mean[4], curve.low[4], curve.high[4]]).all()
    one = mean(losses[8:, 3])
    assert (curve.mean[3], curve.low[3], curve.high[3]) == pytest.approx((one.mean, one.low, one.high))


@pytest.mark.parametrize(("early", "late"), [(0, 4), (4, 4), (5, 3), (1, 13)])
def test_positions_that_are_not_there(early: int, late: int) -> None:
    with pytest.raises(UsageError, match=f"early = {early}, late = {late}: give 1 or more, .* at most 12"):
        in_context_score(np.zeros((3, 12)), early, late)


def test_no_window_has_both() -> None:
    losses = np.zeros((3, 4))
    losses[:, 3] = np.nan
    with pytest.raises(UsageError, match="no window predicts after 1 tokens and after 4: choose a smaller late"):
        in_context_score(losses, 1, 4)


def test_models_of_other_kinds_are_refused(repeated: Examples) -> None:
    encoder = Encoder(layers=1, width=8, heads=2, feedforward=16, context=T).build(V, seed=0)
    with pytest.raises(UsageError, match="measured on decoders, and the model is an encoder"):
        position_losses(encoder, repeated, np.arange(2))


# Through the recipe

TEXT = Tokens(Fable(stories=60), Byte())


def trained(**fields: Any) -> Train:
    model = Decoder(layers=1, width=8, heads=2, feedforward=0, context=24)
    return Train(data=TEXT, model=model, steps=0, evaluate_tokens=0, **fields)


def test_the_recipe(tmp_path: Any) -> None:
    lab = Lab(tmp_path, threads=1, quiet=True)
    run = lab.run(InContext(trained(), tokens=480))
    result, losses = run.result, run.tensors("losses.safetensors")["losses"]
    assert losses.shape == (20, 24) == (result["windows"], 24)
    assert (result["early"]["tokens"], result["late"]["tokens"]) == (2, 24)
    assert result["score"] == mean(losses[:, 23] - losses[:, 1]).to_json()
    assert result["late"]["loss"]["mean"] == pytest.approx(losses[:, 23].mean())
    np.testing.assert_allclose(run.tensors("curve.safetensors")["mean"], losses.mean(0))
    chosen = lab.run(InContext(trained(), tokens=480, early=5, late=9)).result
    assert chosen["score"] == mean(losses[:, 8] - losses[:, 4]).to_json()


def test_a_planted_model_is_measured_on_its_text(tmp_path: Any) -> None:
    run = Lab(tmp_path, threads=1, quiet=True).run(InContext(Planted(length=16, data=TEXT), tokens=160))
    assert run.result["windows"] == 10 and run.result["early"]["tokens"] == 2


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tokens": -1}, "tokens = -1 is too small"),
        ({"early": -1}, "early = -1, late = 0: give 0 for the default"),
        ({"early": 9, "late": 9}, "early = 9, late = 9: .* early a smaller number than late"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        InContext(trained(), **fields)


def test_other_objectives_are_refused_before_anything_is_trained() -> None:
    spoken = trained(objective=Dialogue())
    for of in (spoken, At(replace(spoken, steps=3, keep_every=1), 1)):
        with pytest.raises(UsageError, match="this model learns dialogue: choose one trained with --objective next"):
            InContext(of)


def test_a_model_that_keeps_documents_apart_is_refused_before_it_is_trained() -> None:
    apart = trained(objective=NextToken(apart=True))
    for of in (apart, At(replace(apart, steps=3, keep_every=1), 1)):
        with pytest.raises(UsageError, match="keeps documents apart, so a position does not tell how much") as caught:
            InContext(of)
        assert "\n" not in str(caught.value)


def test_a_late_position_beyond_the_context_is_one_line(tmp_path: Any) -> None:
    with pytest.raises(UsageError, match="early = 2, late = 25: give 1 or more, then more than that, at most 24"):
        Lab(tmp_path, threads=1, quiet=True).run(InContext(trained(), tokens=480, late=25))
