"""The tuned lens: training brings every layer nearer to the model, and finds a translator that is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.recipe import Recipe
from etude.core.run import Draft
from etude.evals.loss import chosen_windows
from etude.interp import tuned_lens
from etude.interp.lenses import Translators, logit_lens
from etude.interp.tuned_lens import TunedLensStepper, lens_divergence, train_tuned_lens
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.models.decoder_model import DecoderModel
from etude.models.load import load
from etude.text.batches import IGNORE, Batch
from etude.text.corpora.fable import Fable
from etude.text.data import TextData
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte
from etude.train.loop import advance
from etude.train.recipes import Train
from etude.train.schedule import Schedule

V, T, D = 12, 8, 8


@dataclass(frozen=True)
class Toy(Recipe, kind="toy-tuned-lens", does="nowhere:nothing"):
    """A recipe for a draft to hold."""


class Random:
    """Windows of random tokens. The first `padding` positions of each predict nothing."""

    context, vocabulary = T, V

    def __init__(self, windows: int, seed: int = 0, padding: int = 0) -> None:
        self.tokens = np.random.default_rng(seed).integers(0, V, (windows, T + 1))
        self.padding = padding

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, indices: np.ndarray, draw: int = 0) -> Batch:
        targets = self.tokens[indices, 1:].copy()
        targets[:, : self.padding] = IGNORE
        return Batch(self.tokens[indices, :-1], targets)


def rotated(layers: int = 2) -> tuple[DecoderModel, torch.Tensor]:
    """Return a model each of whose layers turns the stream, x to x R, and the turns [L D D].

    A layer has a feed-forward network alone, relu(y) - relu(-y) with y = x (R - I), which it adds to x.
    """
    spec = Decoder(
        layers=layers, width=D, heads=1, feedforward=2 * D, context=T,
        norm="none", positions="none", activation="relu", biases=False,
    )  # fmt: skip
    model, draw = spec.module(V).eval(), torch.Generator().manual_seed(0)
    turns = torch.linalg.qr(torch.randn(layers, D, D, generator=draw))[0]
    weight = model.get_parameter
    with torch.no_grad():
        weight("embed.W_E").normal_(generator=draw)
        weight("unembed.W_U").normal_(generator=draw)
        for layer, turn in enumerate(turns):
            change = turn - torch.eye(D)
            weight(f"layers.{layer}.mlp.W_in").copy_(torch.cat([change, -change], 1))
            weight(f"layers.{layer}.mlp.W_out").copy_(torch.cat([torch.eye(D), -torch.eye(D)]))
    return model, turns


@pytest.fixture
def draft(tmp_path: Path) -> Callable[[str], Draft]:
    return lambda name: Draft(tmp_path / f"{name}.partial", Toy())


TRAIN = Train(
    data=Tokens(Fable(stories=60), Byte()),
    model=Decoder(layers=3, width=16, heads=2, feedforward=32, context=24),
    schedule=Schedule(peak=2e-2, warmup=5),
    batch=8,
    steps=60,
    evaluate_every=0,
    evaluate_tokens=256,
)


def test_every_layer_comes_nearer_to_the_model_on_held_out_text(tmp_path: Path, draft: Callable[[str], Draft]):
    lab = Lab(tmp_path, threads=1, quiet=True)
    model, _ = load(lab.run(TRAIN))
    data = TextData.open(lab.run(TRAIN.data))
    train, valid = (data.examples(split, TRAIN.context) for split in ("train", "valid"))
    windows, before = chosen_windows(valid, 1024), {name: p.clone() for name, p in model.named_parameters()}
    run = draft("trained")
    translators = train_tuned_lens(model, train, steps=80, batch=8, rate=5e-3, seed=0, run=run)
    plain, tuned = lens_divergence(model, valid, windows), lens_divergence(model, valid, windows, translators)
    assert plain.shape == tuned.shape == (3,)
    assert (tuned < 0.8 * plain).all(), f"{plain} to {tuned} nats"
    assert all(torch.equal(p, before[name]) and p.grad is None for name, p in model.named_parameters())
    rows = run.rows()
    assert rows[-1]["step"] == 80 and rows[-1]["loss"] < rows[0].get("loss", rows[1]["loss"])
    assert rows[-1]["loss"] == pytest.approx(sum(rows[-1]["kl"]) / 3)


def test_the_divergence_is_that_of_the_lens_table():
    model = Decoder(layers=2, width=D, heads=2, feedforward=16, context=T).build(V, seed=1).eval()
    translators = Translators(2, D)
    torch.nn.init.normal_(translators.A, generator=torch.Generator().manual_seed(0))
    examples, windows = Random(10, padding=3), np.array([1, 4, 9])
    tokens = torch.from_numpy(examples.batch(windows).inputs)
    for given in (None, translators):
        table = logit_lens(model, tokens, translators=given)
        wanted = table.divergence[:2, :, 3:].mean((1, 2)).double()
        torch.testing.assert_close(lens_divergence(model, examples, windows, given), wanted, rtol=1e-4, atol=1e-7)


def test_a_turned_stream_is_turned_back_by_the_translator_that_is_known():
    model, turns = rotated()
    windows, examples = np.arange(20), Random(20)
    known = Translators(2, D)
    with torch.no_grad():
        known.A[0], known.A[1] = turns[0] @ turns[1] - torch.eye(D), turns[1] - torch.eye(D)
    assert (lens_divergence(model, examples, windows) > 2).all(), "the logit lens is lost"
    assert lens_divergence(model, examples, windows, known).abs().max() < 1e-6


def test_training_finds_a_translator_as_good_as_the_known_one(draft: Callable[[str], Draft]):
    model, _ = rotated()
    found = train_tuned_lens(model, Random(200), steps=150, batch=8, rate=0.1, seed=0, run=draft("turned"))
    held_out, windows = Random(20, seed=1), np.arange(20)
    plain, tuned = (lens_divergence(model, held_out, windows, given) for given in (None, found))
    assert (tuned < 0.01 * plain).all(), f"{plain} to {tuned} nats"
    tokens = torch.from_numpy(held_out.batch(windows).inputs)
    table = logit_lens(model, tokens, top=1, translators=found)
    assert (table.tokens[:2] == table.tokens[2]).float().mean() > 0.95


def test_a_step_is_that_of_adam_on_the_divergences_of_all_layers():
    """The same first step, by one backward pass through the sum over layers, each gradient clipped by hand."""
    model, _ = rotated()
    translators, examples = Translators(2, D), Random(30, padding=2)
    torch.nn.init.normal_(translators.A, std=0.1, generator=torch.Generator().manual_seed(3))
    stepper = TunedLensStepper(model, translators, examples, steps=4, batch=5, rate=0.1, seed=7)
    oracle = Translators(2, D)
    oracle.load_state_dict(translators.state_dict())
    tokens = torch.from_numpy(examples.batch(stepper.sampler.indices(1)).inputs)
    x, losses = model.embed(tokens).detach(), []
    p = model(tokens).detach().softmax(-1)
    for layer in range(2):
        with torch.no_grad():
            stream = x if layer == 0 else model.layers[0](x)
        q = model(tokens, stream=oracle(layer, stream), layer=2).log_softmax(-1)
        losses.append((p * (p.log() - q)).sum(-1)[:, 2:].mean())
    optimiser = torch.optim.Adam(oracle.parameters(), lr=0.1 * 3 / 4)
    torch.stack(losses).sum().backward()
    assert oracle.A.grad is not None and oracle.b.grad is not None
    for layer in range(2):
        norm = float((oracle.A.grad[layer].square().sum() + oracle.b.grad[layer].square().sum()).sqrt())
        assert norm > tuned_lens.CLIP, "this one is clipped"
        oracle.A.grad[layer] /= norm
        oracle.b.grad[layer] /= norm
    optimiser.step()
    row = stepper.step(1)
    assert row["kl"] == pytest.approx([loss.item() for loss in losses], rel=1e-4)
    torch.testing.assert_close(translators.A.grad, oracle.A.grad, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(translators.A, oracle.A, rtol=1e-3, atol=1e-4)


def test_layers_learn_by_themselves(draft: Callable[[str], Draft]):
    """What the last layer learns is the same where the stream before it is useless and where it is not."""
    model, _ = rotated()
    whole = train_tuned_lens(model, Random(40), steps=5, batch=4, rate=1e-2, seed=0, run=draft("whole"))
    broken = Translators(2, D)
    torch.nn.init.normal_(broken.A[0], std=5.0, generator=torch.Generator().manual_seed(0))
    stepper = TunedLensStepper(model, broken, Random(40), steps=5, batch=4, rate=1e-2, seed=0)
    for number in range(5):
        stepper.step(number)
    assert torch.equal(broken.A[1], whole.A[1]) and not torch.equal(broken.A[0], whole.A[0])


def test_interrupted_and_resumed_equals_unbroken(draft: Callable[[str], Draft], monkeypatch: pytest.MonkeyPatch):
    model, _ = rotated()

    def train(run: Draft) -> Translators:
        return train_tuned_lens(model, Random(40), steps=12, batch=4, rate=1e-2, seed=3, run=run)

    whole = train(draft("whole"))
    monkeypatch.setattr(tuned_lens, "advance", partial(advance, save_seconds=0.0))
    taken, step = [], TunedLensStepper.step

    def dies(self: TunedLensStepper, number: int) -> dict[str, Any]:
        taken.append(number)
        if number == 7 and taken.count(7) == 1:
            raise MemoryError("planted")
        return step(self, number)

    monkeypatch.setattr(TunedLensStepper, "step", dies)
    with pytest.raises(MemoryError, match="planted"):
        train(draft("broken"))
    resumed = train(draft("broken"))
    assert taken[:8] == list(range(8)) and 0 < taken[8] <= 7 and taken[-1] == 11
    assert torch.equal(resumed.A, whole.A) and torch.equal(resumed.b, whole.b)


def test_the_seed_decides_the_order(draft: Callable[[str], Draft]):
    model, _ = rotated()
    first, again, other = (
        train_tuned_lens(model, Random(40), steps=3, batch=4, rate=1e-2, seed=seed, run=draft(name))
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert torch.equal(first.A, again.A) and not torch.equal(first.A, other.A)


def test_no_steps_leave_the_logit_lens(draft: Callable[[str], Draft]):
    translators = train_tuned_lens(rotated()[0], Random(4), steps=0, batch=2, rate=1e-2, seed=0, run=draft("none"))
    assert not translators.A.any() and not translators.b.any() and not translators.A.requires_grad


def test_a_frozen_model_can_be_read(draft: Callable[[str], Draft]):
    model, _ = rotated()
    train = partial(train_tuned_lens, model, Random(10), steps=2, batch=4, rate=1e-2, seed=0)
    before = train(run=draft("free"))
    model.requires_grad_(False)
    assert torch.equal(train(run=draft("frozen")).A, before.A)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"steps": -1}, "steps = -1 at a rate of 0.01: give 0 steps or more"),
    ({"rate": 0.0}, "steps = 2 at a rate of 0.0: .* a rate over 0"),
    ({"batch": 0}, "4 samples in batches of 0"),
    ({"model": rotated(0)[0]}, "the model has 0 layers, so there is nothing to translate"),
    (
        {"model": Encoder(layers=1, width=D, heads=1, context=T).build(V).eval()},
        "the model is an encoder: choose a decoder",
    ),
    ({"model": Decoder(width=D, heads=1, context=T, dropout=0.5).build(V)}, r"drops out .* call its eval\(\) first"),
    ({"model": replace(rotated()[0].spec, context=4).build(V).eval()}, "a text of 8 tokens is longer than"),
]


@pytest.mark.parametrize(("given", "message"), BAD, ids=[message[:25] for _, message in BAD])
def test_what_cannot_be_trained_is_said_in_one_line(given: dict[str, Any], message: str, draft: Callable[[str], Draft]):
    usual = {"model": rotated()[0], "examples": Random(4), "steps": 2, "batch": 2, "rate": 1e-2, "seed": 0}
    with pytest.raises(UsageError, match=message) as caught:
        train_tuned_lens(**{**usual, "run": draft("bad"), **given})
    assert "\n" not in str(caught.value)


def test_translators_of_another_model_are_refused():
    with pytest.raises(UsageError, match="the translators are of 3 layers of width 8, the model has 2"):
        lens_divergence(rotated()[0], Random(4), np.arange(4), Translators(3, D))
