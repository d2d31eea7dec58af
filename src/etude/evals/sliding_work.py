"""The work of scoring a decoder on whole documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.evals.by_document import DOCUMENTS, document_bytes, summed
from etude.evals.filling import Layout
from etude.evals.recipes import BitsPerByte
from etude.evals.sliding import Sliding, check_stride, stride_for
from etude.evals.splits import asked_of, trained_of
from etude.evals.whole_documents import check_causal
from etude.evals.window_reading import Place, read_windows, token_losses
from etude.models.load import load
from etude.models.recipes import ModelRecipe
from etude.models.transformer import Transformer
from etude.text.data import TextData
from etude.text.neighbours import Neighboured, Reads, found

LOSSES = "losses.safetensors"
"""`losses` [C] in nats, float32: of each token of the split's store, by the model that had read what was before it; and
`right` [C], uint8: whether it was the likeliest one there."""


def bits_per_byte(recipe: BitsPerByte, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Score a model on every document of a split, and keep each token's loss and each document's sums.

    Raises:
        UsageError: the model predicts no next token, the stride does not fit, or the split has no neighbours.
        DivergedError: a loss is not finite.
    """
    model, data = causal(inputs[recipe.of]), TextData.open(inputs[recipe.of.text])
    windows = _windows(recipe, inputs, data)
    store = data.store(recipe.split)
    keep_losses(windows, model, recipe.of, run)
    losses = losses_in(run)
    scores = summed(losses, store, document_bytes(store, data.tokenizer))
    run.save(DOCUMENTS, scores.arrays())
    slides = {"context": windows.context, "stride": windows.stride, "windows": len(windows)}
    return {**scores.summary(), **slides, "k": recipe.k}


def keep_losses(windows: Sliding, model: Transformer, of: ModelRecipe, run: Draft) -> None:
    """Read all windows of a store and keep, of each of its tokens, what `LOSSES` names; killed, it goes on."""
    count = windows.store.count
    layout: Layout = {"losses": (torch.float32, (count,)), "right": (torch.uint8, (count,))}
    read_windows(
        windows,
        np.arange(len(windows)),
        token_losses(model, precision_of(of)),
        Place(run.path / LOSSES, layout, windows.rows, run.scratch / "read.json"),
        progress=lambda done, total: run.progress(done, total, unit="tokens"),
    )


def causal(made: Run) -> Transformer:
    """Return a run's model.

    Raises:
        UsageError: it is none that predicts the next token.
    """
    model, _ = load(made)
    check_causal(model.spec.name)
    return model


def precision_of(of: ModelRecipe) -> str:
    """Return the precision that a model's training had."""
    return getattr(trained_of(of), "precision", "fp32")


def _windows(recipe: BitsPerByte, inputs: Mapping[Recipe, Run], data: TextData) -> Sliding:
    """Return the windows that the model reads, with neighbours where it is given any."""
    store, end, context, of = data.store(recipe.split), data.tokenizer.end, recipe.of.context, recipe.given
    if of is None:
        return Sliding(store, context, end, recipe.stride or stride_for(context))
    stride = recipe.stride or stride_for(context, of.chunk)
    check_stride(stride, context, of.chunk)
    table, library = found(of, inputs, recipe.split)
    reads: Reads = getattr(asked_of(recipe.of), "reads", "both")  # what it learned to read of a neighbour
    return Sliding(store, context, end, stride, Neighboured(store, context, end, table, library, recipe.k, reads))


def losses_in(run: Run | Draft) -> np.ndarray:
    """Return the loss of each token, float32 [C], mapped."""
    return _kept(run, "losses")


def right_in(run: Run | Draft) -> np.ndarray:
    """Return which tokens were the likeliest where they stood, uint8 [C], mapped."""
    return _kept(run, "right")


def _kept(run: Run | Draft, name: str) -> np.ndarray:
    path = run.file(LOSSES) if isinstance(run, Run) else run.path / LOSSES
    with safe_open(path, "pt") as file:
        return file.get_tensor(name).numpy()
