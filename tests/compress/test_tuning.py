"""Training codecs in their place, the model around them, or both: what moves, towards what, and what must not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div

import etude
from etude.compress import tuning
from etude.compress.autoencoder import Autoencoder
from etude.compress.codec import Codebook, Codec, Factored, Linear
from etude.compress.compressor import Compressor, Part, weights_of
from etude.compress.explained import Explained
from etude.compress.host import Host
from etude.compress.linear import constant
from etude.compress.methods.experts import Experts
from etude.compress.methods.infovae import Infovae
from etude.compress.methods.kmeans import Kmeans
from etude.compress.methods.pca import Pca
from etude.compress.methods.random import Random
from etude.compress.methods.svd import Svd
from etude.compress.methods.topk_sae import TopkSae
from etude.compress.methods.zero import Zero
from etude.compress.prior import mmd_to_normal
from etude.compress.recipes import Compress, Continue, TrainSqueezed, Tune
from etude.compress.rounded import Rounded
from etude.compress.saved import load_compressor
from etude.compress.score import harm
from etude.compress.tuned_work import measure_again
from etude.compress.tuning import Course, Tuner, divergence, lost_share, trainable, tune
from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.recipe import Recipe
from etude.core.run import Draft
from etude.core.site import Site
from etude.evals.loss import chosen_windows, live
from etude.models.load import load
from etude.models.transformer import Transformer
from etude.nn.look import look
from etude.text.batches import IGNORE, Examples
from etude.text.data import TextData
from etude.train.loop import advance
from etude.train.recipes import Train
from etude.train.schedule import Schedule

OUT = Site("L0.mlp.out")
COURSE = Course("codec", "kl", steps=16, batch=4, seed=0, schedule=Schedule(peak=1e-2, warmup=2))


@pytest.fixture(scope="module")
def squeezed(trained: Train) -> Compress:
    return Compress(trained, OUT, Pca(2), fit_tokens=1024, evaluate_tokens=512, sequences=0)


@pytest.fixture(scope="module")
def texts(text: TextData, trained: Train) -> Examples:
    return text.examples("train", trained.context)


@pytest.fixture
def draft(tmp_path: Path, squeezed: Compress) -> Draft:
    return Draft(tmp_path / "tune.partial", Tune(squeezed).resolve())


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def subspace(rank: int = 3, seed: int = 0) -> Linear:
    basis = torch.linalg.qr(drawn(16, rank, seed=seed)).Q
    return Linear(torch.zeros(16), basis, basis.T)


def tuner(model: Transformer, texts: Examples, codec: Codec | None = None, **changed: Any) -> Tuner:
    """Return a tuner of a codec at a site in a copy of a model."""
    compressor = Compressor.of(OUT, subspace() if codec is None else codec)
    return Tuner(copy.deepcopy(model), compressor, texts, replace(COURSE, **changed), teacher=model)


def kl(run: Any) -> float:
    return run.result["harm"]["kl"]["mean"]


# What moves


def test_the_maps_of_a_codec_move_and_its_statistics_do_not() -> None:
    assert [len(t) for t in trainable(subspace())] == [16, 16, 3]
    assert len(trainable(Factored(drawn(4, 2), drawn(2, 5)))) == 2
    assert len(trainable(constant(torch.zeros(16)))) == 1  # a constant has a centre, and no directions
    autoencoder = Autoencoder(16, 2, 4)
    assert {id(t) for t in trainable(autoencoder)} == {id(p) for p in autoencoder.parameters()}


@pytest.mark.parametrize(
    "codec",
    [Codebook(drawn(4, 16), torch.full((4,), 0.25)), Rounded.fitted(subspace(), drawn(50, 3), 8)],
    ids=["codebook", "rounded"],
)
def test_a_discrete_code_is_refused(codec: Codec) -> None:
    with pytest.raises(UsageError, match=f"no gradient passes through the code of {type(codec).__name__}") as caught:
        trainable(codec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("trains", "moved"), [("codec", {"codec"}), ("host", {"host"}), ("both", {"codec", "host"})])
def test_only_what_is_trained_moves(
    trains: str, moved: set[str], model: Transformer, texts: Examples, draft: Draft
) -> None:
    made = tuner(model, texts, trains=trains, steps=3)
    names = list(made.codecs.state_dict())
    asked = [p.requires_grad for p in made.host.parameters()]
    tune(made, draft)
    same = all(torch.equal(a, b) for a, b in zip(made.codecs.buffers(), subspace().buffers(), strict=True))
    found = {"codec"} if not same else set()
    found |= {"host"} if weights_of(made.host) != weights_of(model) else set()
    assert found == moved
    assert list(made.codecs.state_dict()) == names
    # and nothing is left behind: no gradients, and the same tensors ask for one as before
    assert [p.requires_grad for p in made.host.parameters()] == asked
    assert not any(b.requires_grad for b in made.codecs.buffers())
    assert all(p.grad is None for p in (*made.host.parameters(), *model.parameters()))
    assert made.host.watchers == 0 and not made.host.training


# Towards what


def test_the_divergence_is_that_of_pytorch() -> None:
    a, b = 3 * drawn(7, 11), 3 * drawn(7, 11, seed=1)
    wanted = kl_div(b.log_softmax(-1), a.log_softmax(-1), log_target=True, reduction="none").sum(-1)
    torch.testing.assert_close(divergence(a, b), wanted)


def test_the_lost_share_is_what_is_not_explained() -> None:
    x, y = drawn(4, 9, 5) + 3, drawn(4, 9, 5, seed=1) + 3
    kept = torch.rand(4, 9, generator=torch.Generator().manual_seed(2)) > 0.4
    explained = Explained()
    explained.add(x[kept], y[kept])
    assert explained.share is not None
    assert lost_share(x, y, kept).item() == pytest.approx(1 - explained.share, rel=1e-5)
    assert lost_share(x, y, None).item() == pytest.approx(float(((x - y) ** 2).sum() / (x**2).sum()), rel=1e-6)


@pytest.mark.parametrize("objective", ["kl", "loss", "activation"])
def test_the_loss_of_a_step_is_its_objective(objective: str, model: Transformer, texts: Examples) -> None:
    made = tuner(model, texts, objective=objective)
    batch = live(texts.batch(made.sampler.indices(3), draw=3), torch.device("cpu"))
    x = look(model, batch.inputs, OUT)[OUT]
    with torch.no_grad(), model.tapped({OUT: subspace()}):
        scores = model(batch.inputs).flatten(0, 1)
    clean = model(batch.inputs).detach().flatten(0, 1)
    wanted = {
        "kl": divergence(clean, scores).mean(),
        "loss": cross_entropy(scores, batch.targets.flatten()),
        "activation": lost_share(x, subspace()(x), batch.targets != IGNORE),
    }
    with made.asking():
        assert made.step(3)["loss"] == pytest.approx(wanted[objective].item(), rel=1e-5)


def test_a_batch_in_parts_is_one_batch(model: Transformer, texts: Examples, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, centres = [], []
    for size in (64, 3):
        monkeypatch.setattr(tuning, "batch_for", lambda vocabulary, context, size=size: size)
        made = tuner(model, texts, trains="both", objective="loss", batch=8)
        with made.asking():
            rows.append(made.step(0))
        centres.append(next(iter(made.codecs)).get_buffer("centre").clone())
    assert rows[0] == pytest.approx(rows[1], rel=1e-4)
    torch.testing.assert_close(centres[0], centres[1], atol=2e-3, rtol=0)  # Adam's first step is a sign times 5e-3


def test_the_prior_is_the_discrepancy_of_the_codes(model: Transformer, texts: Examples) -> None:
    codec = Autoencoder(16, 2, 4)
    codec.start_at_principal_components(drawn(400, 16), torch.Generator().manual_seed(0))
    made = Compressor({OUT: Part(codec, None, Infovae(latent=2))})
    found = []
    for prior in (0.0, 0.5):
        one = Tuner(model, made, texts, replace(COURSE, prior=prior), teacher=model)
        with one.asking():
            found.append(one._objective(live(texts.batch(np.arange(4)), torch.device("cpu")), 4 * 32).item())
    x = look(model, torch.from_numpy(texts.batch(np.arange(4)).inputs), OUT)[OUT].flatten(0, 1)
    assert found[1] - found[0] == pytest.approx(0.5 * mmd_to_normal(codec.encode(x), 2.0).item(), rel=1e-3)
    with pytest.raises(UsageError, match=r"prior = 0\.5: none of these codecs has a prior"):
        tuner(model, texts, prior=0.5)


def test_a_random_subspace_learns_what_principal_components_know(lab: Lab, squeezed: Compress) -> None:
    """They are the best there is of that size, so what is found cannot be better, but for the split."""
    start = replace(squeezed, method=Random(2))
    learned = lab.run(Tune(start, "codec", "activation", steps=150, batch=8, rate=2e-2)).result
    best = lab.run(squeezed).result["harm"]["explained"]
    assert learned["before"]["explained"] < 0.5 * best
    assert 0.85 * best < learned["harm"]["explained"] < best + 0.05


def test_tuning_end_to_end_lowers_the_divergence_on_text_that_it_did_not_see(lab: Lab, squeezed: Compress) -> None:
    before, after = lab.run(squeezed), lab.run(Tune(squeezed, steps=60, batch=8, rate=5e-3))
    assert kl(after) < 0.7 * kl(before)
    assert after.result["before"]["kl"] == before.result["harm"]["kl"]
    assert after.result["cost"] == before.result["cost"]


# Runs


def test_no_steps_are_the_compression_itself(lab: Lab, squeezed: Compress) -> None:
    before, after = lab.run(squeezed), lab.run(Tune(squeezed, steps=0))
    assert after.result["harm"] == before.result["harm"]
    tensors = [run.tensors("codec.safetensors") for run in (before, after)]
    assert all(np.array_equal(tensors[0][name], tensors[1][name]) for name in tensors[0])


def test_a_tuned_codec_belongs_to_the_model_as_it_was(lab: Lab, squeezed: Compress, trained: Train) -> None:
    run = lab.run(Tune(squeezed, steps=60, batch=8, rate=5e-3))
    model, _ = load(lab.run(trained))
    found = load_compressor(run)
    assert found.model == weights_of(model) == load_compressor(lab.run(squeezed)).model
    assert "model.safetensors" not in run.files and run.result["control"] is None


def test_a_tuned_host_and_its_codec_are_in_the_run(
    lab: Lab, squeezed: Compress, trained: Train, held_out: tuple[Examples, np.ndarray]
) -> None:
    run, (examples, _) = lab.run(Tune(squeezed, "both", "loss", steps=20, batch=8)), held_out
    model, tokenizer = etude.load(run.path)
    before, _ = load(lab.run(trained))
    found, windows = load_compressor(run), np.linspace(0, len(examples) - 1, 16).round().astype(np.int64)
    again = harm(Host(before, examples, windows), found, inside=model).to_json()
    stored = run.result["harm"]
    assert again == {**stored, "parts": {part: stored["parts"][part] for part in again["parts"]}}
    assert tokenizer.vocabulary == before.vocabulary
    with pytest.raises(UsageError, match="belongs to a model whose weights are"), found.placed(before):
        pass


def test_the_control_is_the_steps_alone(lab: Lab, squeezed: Compress) -> None:
    recipe = Tune(squeezed, "host", "loss", steps=20, batch=8)
    control = recipe.control()
    assert control is not None
    told, alone = lab.run(recipe).result, lab.run(control).result["harm"]
    assert told["control"]["increase"] == alone["increase"]
    difference = told["harm"]["loss"]["mean"] - alone["loss"]["mean"]
    assert told["control"]["beyond"]["mean"] == pytest.approx(difference, abs=1e-9)
    still = lab.run(replace(control, steps=0)).result["harm"]
    assert still["increase"]["mean"] == still["kl"]["mean"] == 0 and alone["kl"]["mean"] > 0


def test_a_training_through_a_codec_that_loses_nothing_is_the_plain_training(
    lab: Lab, squeezed: Compress, trained: Train
) -> None:
    """Sixteen directions of sixteen: the same weights at the start, the same batches, schedule, clipping and steps."""
    whole = replace(squeezed, of=replace(trained, steps=24), method=Pca(16))
    assert abs(lab.run(TrainSqueezed(whole, "host")).result["harm"]["increase"]["mean"]) < 2e-3
    assert kl(lab.run(TrainSqueezed(whole, "host"))) < 1e-3
    # A map that moves has other gradients, and the model is about as good.
    assert abs(lab.run(TrainSqueezed(whole)).result["harm"]["increase"]["mean"]) < 0.05


def test_a_model_trained_around_a_bottleneck_needs_it(lab: Lab, squeezed: Compress) -> None:
    run = lab.run(TrainSqueezed(squeezed))
    model, _ = load(run)
    load_compressor(run).require(model)
    rows = [row["loss"] for row in run.record if row["step"]]
    assert rows[-1] < rows[0] - 0.5
    # Put into the model that was trained without it, the codec was far worse.
    assert run.result["harm"]["increase"]["mean"] < lab.run(squeezed).result["harm"]["increase"]["mean"] + 0.1


def test_several_sites_are_tuned_together(lab: Lab, squeezed: Compress) -> None:
    both = replace(squeezed, site="L*.mlp.out")
    before, after = lab.run(both), lab.run(Tune(both, steps=40, batch=8, rate=5e-3))
    assert kl(after) < kl(before) and after.result["sites"] == ["L0.mlp.out", "L1.mlp.out"]
    tensors = [run.tensors("codec.safetensors") for run in (before, after)]
    assert all(not np.array_equal(tensors[0][f"L{n}.mlp.out/down"], tensors[1][f"L{n}.mlp.out/down"]) for n in (0, 1))


def test_a_weight_is_tuned(lab: Lab, squeezed: Compress) -> None:
    weight = replace(squeezed, site="L0.mlp.W_out", method=Svd(1))
    assert kl(lab.run(Tune(weight, steps=40, batch=8, rate=5e-3))) < kl(lab.run(weight))


def test_a_sparse_code_is_counted_again(lab: Lab, squeezed: Compress, trained: Train, texts: Examples) -> None:
    """By hand: how often each latent of the tuned codec fires on what it was fitted to."""
    start = replace(squeezed, method=TopkSae(k=2, steps=40, batch=64))
    before, after = (load_compressor(lab.run(r)).parts[OUT].codec for r in (start, Tune(start, steps=20, batch=8)))
    model = load(lab.run(trained))[0]
    windows = chosen_windows(texts, start.fit_tokens)
    x = look(model, torch.from_numpy(texts.batch(windows).inputs), OUT)[OUT].flatten(0, 1)
    for codec in (before, after):
        wanted = (codec.encode(x) > 0).double().mean(0)
        torch.testing.assert_close(codec.get_buffer("rate"), wanted, atol=2e-3, rtol=0)
    assert (before.get_buffer("rate") - after.get_buffer("rate")).abs().max() > 0.01


@pytest.mark.parametrize("trains", ["codec", "both"])
def test_resuming_is_exact(
    trains: str, model: Transformer, texts: Examples, draft: Draft, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tuner(model, texts, trains=trains)
    tune(whole, draft)
    monkeypatch.setattr(tuning, "advance", partial(advance, save_seconds=0.0))
    taken, step = [], Tuner.step

    def dies(self: Tuner, number: int) -> dict[str, Any]:
        taken.append(number)
        if number == 11 and taken.count(11) == 1:
            raise MemoryError("planted")
        return step(self, number)

    monkeypatch.setattr(Tuner, "step", dies)
    broken = Draft(draft.path.with_name("broken.partial"), draft.recipe)
    with pytest.raises(MemoryError, match="planted"):
        tune(tuner(model, texts, trains=trains), broken)
    resumed = tuner(model, texts, trains=trains)
    tune(resumed, Draft(broken.path, broken.recipe))
    assert 0 < taken[12] <= 11 and taken[-1] == 15  # it went on from a checkpoint
    for part in ("host", "codecs"):
        pairs = zip(
            getattr(whole, part).state_dict().values(), getattr(resumed, part).state_dict().values(), strict=True
        )
        assert all(torch.equal(a, b) for a, b in pairs)


def test_experts_are_counted_again_where_they_stand(lab: Lab, squeezed: Compress, texts: Examples) -> None:
    """Frequencies that are wrong beforehand come out as those of the fit: nothing else was changed."""
    made = lab.run(replace(squeezed, method=Experts(experts=4, rank=1, depth=3)))
    model, compressor = load(lab.run(squeezed.of))[0], load_compressor(made)
    (part,) = compressor.parts.values()
    wanted = part.codec.get_buffer("frequency").clone()
    part.codec.get_buffer("frequency").copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
    assert part.codec.cost().bits == 32
    measure_again(model, compressor, texts, chosen_windows(texts, squeezed.fit_tokens))
    torch.testing.assert_close(part.codec.get_buffer("frequency"), wanted, atol=2e-3, rtol=0)
    assert 32 < (part.codec.cost().bits or 0) <= 34


def test_the_teacher_must_be_there(model: Transformer, texts: Examples) -> None:
    with pytest.raises(UsageError, match="give it as the teacher"):
        Tuner(model, Compressor.of(OUT, subspace()), texts, COURSE)


REFUSED: list[tuple[Callable[[Compress], Recipe], str]] = [
    (lambda c: Tune(c, steps=-1), "steps = -1, batch = 16, rate = 0.001: give 0 or more steps"),
    (lambda c: Tune(c, rate=0.0), "rate = 0.0"),
    (lambda c: Continue(c.of, batch=0), "batch = 0"),
    (lambda c: Tune(c, "host", "activation"), "objective = activation says nothing of what a model predicts"),
    (lambda c: Tune(replace(c, method=Kmeans(4))), "the code of kmeans is discrete"),
    (lambda c: Tune(replace(c, method=Kmeans(4)), "host"), "the code of kmeans is discrete"),
    (lambda c: Tune(replace(c, method=Zero())), "zero that is tuned is a constant"),
    (lambda c: Tune(replace(c, precision=8), "both"), "the code of 8 bits is discrete"),
    (lambda c: Tune(replace(c, precision=8), "host"), "the code of 8 bits is discrete"),
    (lambda c: Tune(c, prior=1.0), "prior = 1.0 with pca"),
    (lambda c: TrainSqueezed(c, prior=1.0), "prior = 1.0 with pca"),
    (lambda c: TrainSqueezed(replace(c, of=replace(c.of, average=0.9))), "average, patience or extend"),
]


@pytest.mark.parametrize(("make", "words"), REFUSED)
def test_what_cannot_be_is_one_line(make: Callable[[Compress], Recipe], words: str, squeezed: Compress) -> None:
    with pytest.raises(UsageError) as caught:
        make(squeezed)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_recipes_read_back_and_need_what_they_read(squeezed: Compress) -> None:
    shown: list[Recipe] = [Tune(squeezed, "both", "loss"), Continue(squeezed.of), TrainSqueezed(squeezed)]
    for recipe in (one.resolve() for one in shown):
        assert Recipe.from_json(recipe.to_json()) == recipe
    controlled = Tune(squeezed, "both", "loss")
    assert controlled.control() in list(controlled.plan({}))
    assert list(Tune(squeezed).plan({})) == [squeezed, squeezed.of, squeezed.of.text]
