"""Recording activations: what `look` sees, without padding; and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from etude.compress import recipes
from etude.compress.methods.infovae import Infovae
from etude.compress.methods.kmeans import Kmeans
from etude.compress.methods.pca import Pca
from etude.compress.methods.svd import Svd
from etude.compress.recipes import Compress, Latents, Record
from etude.core.done import Done
from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.recipe import Recipe, work_of
from etude.core.run import Draft
from etude.core.site import Site
from etude.evals.loss import chosen_windows
from etude.models.load import load
from etude.models.saved import WEIGHTS
from etude.models.transformer import Transformer
from etude.nn.look import look
from etude.text.batches import IGNORE
from etude.text.data import TextData
from etude.train.recipes import At, Train


@pytest.mark.parametrize("site", ["L0.attn.out", "L1.mlp.post", "L0.attn.z", "embed.out"])
def test_what_look_sees_is_recorded(site: str, lab: Lab, trained: Train, model: Transformer, text: TextData) -> None:
    run = lab.run(Record(trained, site, tokens=1000))
    examples = text.examples("train", trained.context)
    windows = chosen_windows(examples, 1000)
    seen = look(model, torch.from_numpy(examples.batch(windows).inputs), site)[Site(site)]
    wanted = seen.flatten(2).flatten(0, 1) if seen.ndim == 4 else seen.flatten(0, 1)
    torch.testing.assert_close(torch.from_numpy(run.tensors("activations.safetensors")["activations"]), wanted)
    assert run.result["tokens"] == len(wanted) == 1000 // trained.context * trained.context
    assert run.result["width"] == wanted.shape[1]


def test_all_of_the_split_where_no_number_is_given(lab: Lab, trained: Train, text: TextData) -> None:
    run = lab.run(Record(trained, "L0.attn.out", tokens=0))
    assert run.result["tokens"] == len(text.examples("train", trained.context)) * trained.context


def test_padding_is_not_recorded(lab: Lab, openings: Train) -> None:
    run = lab.run(Record(openings, "L0.attn.out", tokens=0))
    model, _ = load(lab.run(openings))
    found = TextData.open(lab.run(openings.data)).examples("train", 12).batch(np.arange(60))
    tokens, targets = found.inputs, found.targets
    real = torch.from_numpy(targets != IGNORE)
    assert 0 < real.sum() < 0.8 * real.numel()
    seen = look(model, torch.from_numpy(tokens), "L0.attn.out")[Site("L0.attn.out")]
    recorded = torch.from_numpy(run.tensors("activations.safetensors")["activations"])
    torch.testing.assert_close(recorded, seen[real])


def test_one_recording_serves_every_method(trained: Train) -> None:
    squeezed = [Compress(trained, "L0.attn.out", method) for method in (Pca(2), Pca(3), Kmeans(4))]
    assert len({c.recording for c in squeezed}) == 1
    assert Compress(trained, "L0.attn.W_O", Svd(2)).recording is None


def test_activations_that_are_not_finite(lab: Lab, trained: Train, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A model broken on purpose: one column of an output is infinite, so the next layer's is not a number."""
    broken = Draft(tmp_path_factory.mktemp("broken") / "model.partial", trained.resolve())
    whole = lab.run(trained)
    for name in whole.files:
        (broken.path / name).write_bytes(whole.file(name).read_bytes())
    weights = load_file(whole.file(WEIGHTS))
    weights["layers.0.attn.W_O"][..., 3] = torch.inf
    save_file(weights, broken.path / WEIGHTS)
    inputs = Done()
    inputs.add(trained.resolve(), broken.finish({}, {}))
    inputs.add(trained.data.resolve(), lab.run(trained.data))
    recipe = Record(trained, "L1.attn.out", tokens=320).resolve()
    with pytest.raises(UsageError, match=r"320 of 320 activations at L1\.attn\.out are not finite; the model has div"):
        work_of(recipe)(recipe, inputs, Draft(tmp_path_factory.mktemp("record") / "r.partial", recipe))


def bare(train: Train) -> Train:
    return replace(train, model=replace(train.model, feedforward=0))


REFUSED: list[tuple[Callable[[Train], Recipe], str]] = [
    (lambda t: Record(t, "L0.attn.W_O"), "L0.attn.W_O is a weight, which needs no recording; record an activation"),
    (lambda t: Record(t, "L0.attn.pattern"), "no vector for each token; choose a site such as L0.attn.out"),
    (lambda t: Record(t, "L0.attn_norm.scale"), "no vector for each token"),
    (lambda t: Record(t, "L7.attn.out"), "unknown site 'L7.attn.out': the model has 2 layers (L0, L1)"),
    (lambda t: Record(At(t, 0), "L7.attn.out"), "unknown site 'L7.attn.out': the model has 2 layers (L0, L1)"),
    (lambda t: Record(bare(t), "L1.mlp.out"), "unknown site 'L1.mlp.out': the model is attention-only"),
    (lambda t: Compress(bare(t), "L1.mlp.W_out", Svd(2)), "attention-only (feedforward = 0); choose one such as L1.at"),
    (lambda t: Record(t, "L0.attn.outt"), "unknown site 'L0.attn.outt': did you mean 'L0.attn.out'?"),
    (lambda t: Record(t, "L*.attn.out"), "'L*.attn.out' is not a site"),
    (lambda t: Compress(t, "L0.attn.out", Svd(2)), "svd compresses a weight and L0.attn.out is an activation; choose"),
    (lambda t: Compress(t, "L0.attn.W_O", Pca(2)), "pca compresses an activation and L0.attn.W_O is a weight; choose"),
    (lambda t: Compress(t, "L5.attn.W_O", Svd(2)), "unknown site 'L5.attn.W_O': the model has 2 layers (L0, L1)"),
    (
        lambda t: Compress(t, "L0.attn.b_O", Svd(2)),
        "L0.attn.b_O is a weight but no matrix; choose one such as L0.attn.W_O",
    ),
    (lambda t: Compress(t, "final_norm.w", Svd(2)), "final_norm.w is a weight but no matrix"),
    (lambda t: Compress(t, "L0.attn.W_O", Svd(17)), "svd.rank = 17 does not fit: there are 16"),
    (lambda t: Compress(t, "L0.attn.out", Pca(17), fit_tokens=320), "pca.dimensions = 17 does not fit: there are 16"),
    (lambda t: Compress(t, "L0.attn.out", Kmeans(99), fit_tokens=64), "there are 64 recorded tokens; choose 1 to 64"),
    (lambda t: Latents(Compress(t, "L0.attn.W_O", Svd(2))), "L0.attn.W_O is a weight, which has no latents"),
]


@pytest.mark.parametrize(("make", "words"), REFUSED)
def test_what_cannot_be_is_one_line(make: Callable[[Train], Recipe], words: str, lab: Lab, trained: Train) -> None:
    with pytest.raises(UsageError) as caught:
        lab.run(make(trained))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_recipes_read_back_and_need_what_they_read(trained: Train) -> None:
    squeezed = Compress(trained, "L0.mlp.out", Pca(3), fit_tokens=640).resolve()
    shown: list[Any] = [squeezed, Latents(squeezed), Record(squeezed.of, "L0.mlp.out")]
    for recipe in shown:
        assert Recipe.from_json(recipe.to_json()) == recipe
    assert list(squeezed.plan({})) == [squeezed.of, squeezed.of.text, squeezed.recording]
    assert list(replace(squeezed, site="L0.mlp.W_out", method=Svd(2)).plan({})) == [squeezed.of, squeezed.of.text]
    assert list(Latents(squeezed).plan({})) == [squeezed, squeezed.of, squeezed.of.text]


@pytest.mark.parametrize("site", ["L2.attn.out", "L2.attn.W_O"])
def test_a_site_that_no_such_model_has_is_refused_before_it_is_trained(site: str, trained: Train) -> None:
    method = Pca(2) if site.endswith("out") else Svd(2)
    for model in (trained, At(trained, 60)):
        with pytest.raises(UsageError, match="the model has 2 layers"):
            Compress(model, site, method)


def test_room_is_asked_for_what_is_written(lab: Lab, trained: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "ROOM", 40_000)  # what a run holds besides, here
    squeezed = [Compress(trained, "L0.mlp.out", method) for method in (Pca(9), Kmeans(64), Infovae(latent=9, steps=9))]
    recorded = Record(trained, "L0.mlp.out")
    for recipe in (recorded, *squeezed, Compress(trained, "L0.mlp.W_out", Svd(9))):
        written = sum(file["bytes"] for file in lab.run(recipe).files.values())
        assert written <= recipe.estimate().disk_bytes, recipe.kind
    found = lab.run(recorded).result
    assert recorded.estimate().disk_bytes >= 40_000 + found["tokens"] * found["width"] * 4
    assert Infovae(latent=200).disk_bytes(768) > 4 * 10 * 2 * 768 * 1536  # with Adam's moments, three times over
