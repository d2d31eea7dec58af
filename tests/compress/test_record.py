"""What a compression is fitted to, what it needs beforehand, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from etude.compress import recipes
from etude.compress.methods.infovae import Infovae
from etude.compress.methods.kmeans import Kmeans
from etude.compress.methods.mean import Mean
from etude.compress.methods.pca import Pca
from etude.compress.methods.svd import Svd
from etude.compress.recipes import Compress, Latents
from etude.compress.saved import CODEC
from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.recipe import Recipe
from etude.core.site import Site
from etude.evals.loss import chosen_windows
from etude.evals.recipes import Record
from etude.models.transformer import Transformer
from etude.nn.look import look
from etude.text.data import TextData
from etude.train.recipes import At, Train


def test_one_recording_serves_every_method(trained: Train) -> None:
    squeezed = [Compress(trained, "L0.attn.out", method) for method in (Pca(2), Pca(3), Kmeans(4))]
    assert len({c.recording(Site("L0.attn.out")) for c in squeezed}) == 1


def test_a_compressor_is_fitted_to_what_was_recorded(
    lab: Lab, trained: Train, text: TextData, model: Transformer
) -> None:
    """The mean is the simplest: it is that of what passes the site on the training split."""
    examples = text.examples("train", trained.context)
    windows = chosen_windows(examples, 960)
    seen = look(model, torch.from_numpy(examples.batch(windows).inputs), "L1.attn.z")["L1.attn.z"]
    run = lab.run(Compress(trained, "L1.attn.z", Mean(), fit_tokens=960, evaluate_tokens=320))
    assert any(np.allclose(array, seen.flatten(2).mean((0, 1)), atol=1e-6) for array in run.tensors(CODEC).values())


def bare(train: Train) -> Train:
    return replace(train, model=replace(train.model, feedforward=0))


REFUSED: list[tuple[Callable[[Train], Recipe], str]] = [
    (lambda t: Record(t, "L0.attn.pattern"), "no vector for each token; choose a site such as L0.attn.out"),
    (lambda t: Record(t, "L0.attn_norm.scale"), "no vector for each token"),
    (lambda t: Compress(bare(t), "L1.mlp.W_out", Svd(2)), "attention-only (feedforward = 0); choose one such as L1.at"),
    (lambda t: Record(t, "L0.attn.outt"), "unknown site 'L0.attn.outt': did you mean 'L0.attn.out'?"),
    (lambda t: Compress(t, "L7*.attn.out", Pca(2)), "names no layers of 2"),
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
    assert list(squeezed.plan({})) == [squeezed.of, squeezed.of.text, squeezed.recording(Site("L0.mlp.out"))]
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
    for recipe in (*squeezed, Compress(trained, "L0.mlp.W_out", Svd(9))):
        written = sum(file["bytes"] for file in lab.run(recipe).files.values())
        assert written <= recipe.estimate().disk_bytes, recipe.kind
    assert Infovae(latent=200).disk_bytes(768) > 4 * 10 * 2 * 768 * 1536  # with Adam's moments, three times over
