"""What a compressor does to a model: against plain references, on the same windows for every method."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from etude.compress.codec import Codec, Cost
from etude.compress.compressor import Compressor
from etude.compress.explained import Explained
from etude.compress.linear import constant
from etude.compress.material import Material
from etude.compress.methods.base import Method
from etude.compress.methods.infovae import Infovae
from etude.compress.methods.mean import Mean
from etude.compress.methods.pca import Pca
from etude.compress.methods.random import Random
from etude.compress.methods.svd import Svd
from etude.compress.recipes import Compress
from etude.compress.score import Host, harm
from etude.compress.work import load_codec
from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.run import Draft
from etude.core.site import Site
from etude.evals.loss import score
from etude.evals.recipes import Record
from etude.evals.recording import Recording
from etude.models.architectures.encoder import Encoder
from etude.models.load import load
from etude.models.transformer import Transformer
from etude.nn.look import look
from etude.text.batches import IGNORE, Examples
from etude.text.corpora.fable import Fable
from etude.text.data import TextData
from etude.text.recipes import Tokens
from etude.text.tokenizers.bpe import BytePair
from etude.train.objectives.masked import Masked
from etude.train.recipes import Train

Split = tuple[Examples, np.ndarray]
OUT = Site("L0.mlp.out")


class Same(Codec):
    """Loses nothing."""

    def encode(self, x: Tensor) -> Tensor:
        return x

    def decode(self, code: Tensor) -> Tensor:
        return code

    def cost(self) -> Cost:
        return Cost(None, 0.0, 0)


@pytest.fixture
def mean(tmp_path: Path, lab: Lab, trained: Train) -> Codec:
    data = Recording.open(lab.run(Record(trained, OUT, 2048))).activations(OUT)
    return Mean().fit(Material(data), 0, Draft(tmp_path / "fit.partial", trained.resolve()))


@pytest.mark.parametrize("site", [OUT, "L1.attn.z", "L1.attn.W_V"])
def test_a_codec_that_loses_nothing_does_no_harm(site: str, model: Transformer, held_out: Split) -> None:
    found = harm(Host(model, *held_out), Compressor.of(site, Same()))
    assert np.array_equal(found.clean, found.harmed)
    assert found.kl.tolist() == [0.0] * len(held_out[1])
    told = found.to_json()
    assert told["explained"] == 1
    assert told["increase"] == {"mean": 0, "low": 0, "high": 0, "n": len(held_out[1])}


def test_harm_against_plain_sums(model: Transformer, held_out: Split, mean: Codec) -> None:
    """Window by window and position by position, in float64."""
    examples, windows = held_out
    found = harm(Host(model, examples, windows), Compressor.of(OUT, mean))
    for row, window in enumerate(windows[:5]):
        batch = examples.batch(np.array([window]))
        tokens, targets = batch.inputs, batch.targets
        clean = model(torch.from_numpy(tokens)).detach().double()[0]
        with model.tapped({OUT: lambda x: mean.get_buffer("centre").expand_as(x).clone()}):
            harmed = model(torch.from_numpy(tokens)).detach().double()[0]
        loss, kl, right = 0.0, 0.0, 0
        for before, after, target in zip(clean, harmed, targets[0], strict=True):
            p, q = torch.softmax(before, 0), torch.softmax(after, 0)
            loss -= math.log(q[target])
            kl += sum(float(a) * math.log(a / b) for a, b in zip(p, q, strict=True))
            right += int(after.argmax() == target)
        assert found.harmed[row].sum() == pytest.approx(loss, rel=1e-5)
        assert found.kl[row] == pytest.approx(kl, rel=1e-3, abs=1e-5)
        assert found.right[row].sum() == right
    assert (found.kl > 0).all()


def test_the_increase_is_the_difference_of_losses(model: Transformer, held_out: Split, mean: Codec) -> None:
    told = harm(Host(model, *held_out), Compressor.of(OUT, mean)).to_json()
    assert told["increase"]["mean"] == pytest.approx(told["loss"]["mean"] - told["clean_loss"]["mean"], abs=1e-12)
    assert told["increase"]["mean"] > 0.01  # this component matters, so the tests here test something
    # Paired, it is far sharper than either loss.
    assert told["increase"]["high"] - told["increase"]["low"] < 0.5 * (told["loss"]["high"] - told["loss"]["low"])
    assert told["tokens"] == 1024


def test_the_clean_scores_are_those_of_evaluation(model: Transformer, held_out: Split, mean: Codec) -> None:
    found, plain = harm(Host(model, *held_out), Compressor.of(OUT, mean)), score(model, *held_out)
    np.testing.assert_allclose(found.clean.sum(1), plain.loss, rtol=1e-6)


def test_the_model_is_left_as_it_was(model: Transformer, held_out: Split, mean: Codec) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    harm(Host(model, *held_out), Compressor.of(OUT, mean))
    nothing = Svd(1).codec({"left": torch.zeros(32, 1), "right": torch.zeros(1, 16)})
    harm(Host(model, *held_out), Compressor.of("L0.mlp.W_out", nothing))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.watchers == 0


def test_explained_is_about_the_mean_of_what_is_scored(model: Transformer, held_out: Split, mean: Codec) -> None:
    examples, windows = held_out
    seen = look(model, torch.from_numpy(examples.batch(windows).inputs), OUT)[OUT].flatten(0, 1).double()
    error = ((seen - mean.get_buffer("centre")) ** 2).sum()
    wanted = 1 - error / ((seen - seen.mean(0)) ** 2).sum()
    explained = harm(Host(model, examples, windows), Compressor.of(OUT, mean)).explained
    assert explained[OUT] == pytest.approx(float(wanted), abs=1e-6)
    assert wanted <= 0  # the mean of the training split, judged about the mean of this one


def test_padding_counts_for_nothing(lab: Lab, openings: Train) -> None:
    """A codec that is right where there is text and wrong where there is padding explains all and harms nothing."""
    model, _ = load(lab.run(openings))
    examples = TextData.open(lab.run(openings.data)).examples("valid", 12)
    windows = np.arange(len(examples))
    targets = torch.from_numpy(examples.batch(windows).targets)

    class WrongInPadding(Same):
        def decode(self, code: Tensor) -> Tensor:
            return code + 100 * (targets == IGNORE)[..., None]

    found = harm(Host(model, examples, windows), Compressor.of("L0.attn.out", WrongInPadding())).to_json()
    assert (targets == IGNORE).any() and found["tokens"] == int((targets != IGNORE).sum())
    assert found["explained"] == 1
    assert found["increase"]["mean"] == 0 and found["kl"]["mean"] == 0


def test_explained_in_pieces_is_explained_at_once() -> None:
    x, y = torch.randn(90, 5) + 3, torch.randn(90, 5) + 3
    whole, pieces = Explained(), Explained()
    whole.add(x, y)
    for a, b in zip(x.split(17), y.split(17), strict=True):
        pieces.add(a[None], b[None])
    assert whole.share is not None and pieces.share == pytest.approx(whole.share, abs=1e-12)


# Through the recipe


@pytest.fixture(scope="module")
def compressions(trained: Train) -> dict[str, Compress]:
    methods: dict[str, Method] = {"pca": Pca(4), "random": Random(4), "infovae": Infovae(latent=4, steps=20, batch=64)}
    at = {name: Compress(trained, OUT, m, fit_tokens=1024, evaluate_tokens=512) for name, m in methods.items()}
    return {**at, "svd": Compress(trained, "L0.mlp.W_out", Svd(4), evaluate_tokens=512)}


def test_what_is_no_decoder_is_refused_before_it_is_trained(trained: Train) -> None:
    data = Tokens(Fable(stories=60), BytePair(vocabulary=300, specials=("mask", "first", "separator")))
    shape = Encoder(layers=1, width=16, heads=2, feedforward=8, context=32)
    encoder = replace(trained, data=data, model=shape, objective=Masked())
    with pytest.raises(UsageError, match="judged in decoders, and the model is an encoder: give a decoder"):
        Compress(encoder)


def test_every_method_is_judged_on_the_same_windows(lab: Lab, compressions: dict[str, Compress]) -> None:
    runs = {name: lab.run(c) for name, c in compressions.items()}
    stored = {name: run.tensors("windows.safetensors") for name, run in runs.items()}
    clean = {name: run.result["harm"]["clean_loss"] for name, run in runs.items()}
    for name, windows in stored.items():
        assert np.array_equal(windows["count"], stored["pca"]["count"]), name
        assert clean[name] == clean["pca"]
        told = runs[name].result["harm"]
        assert windows["loss"].sum() / windows["count"].sum() == pytest.approx(told["loss"]["mean"], rel=1e-12)
        assert windows["kl"].sum() / windows["count"].sum() == pytest.approx(told["kl"]["mean"], rel=1e-12)


def test_a_saved_codec_does_what_was_scored(
    lab: Lab, compressions: dict[str, Compress], model: Transformer, text: TextData
) -> None:
    examples = text.examples("valid", 32)
    windows = np.linspace(0, len(examples) - 1, 16).round().astype(np.int64)
    for name, recipe in compressions.items():
        run = lab.run(recipe)
        again = harm(Host(model, examples, windows), Compressor.of(recipe.site, load_codec(recipe, run))).to_json()
        stored = run.result["harm"]
        parts = stored["parts"]  # the host of the run knows the tokens, and has sequences that repeat themselves
        assert again == {**stored, "parts": {part: parts[part] for part in again["parts"]}}, name
        assert "induction" in parts and "punctuation" in parts


def test_more_dimensions_harm_less(lab: Lab, trained: Train, compressions: dict[str, Compress]) -> None:
    few = lab.run(Compress(trained, OUT, Pca(1), fit_tokens=1024, evaluate_tokens=512)).result["harm"]
    more, drawn = (lab.run(compressions[name]).result["harm"] for name in ("pca", "random"))
    assert few["explained"] < more["explained"] < 1
    assert more["kl"]["mean"] < few["kl"]["mean"]
    assert more["explained"] > drawn["explained"]


def test_what_is_kept_of_the_unharmed_model_is_what_it_says_each_time(model: Transformer, held_out: Split) -> None:
    kept, fresh = Host(model, *held_out), Host(model, *held_out)
    fresh._keep = False
    zero = constant(torch.zeros(16))
    for _ in range(2):
        assert harm(kept, Compressor.of(OUT, zero)).to_json() == harm(fresh, Compressor.of(OUT, zero)).to_json()
    assert kept._kept
    assert not fresh._kept
