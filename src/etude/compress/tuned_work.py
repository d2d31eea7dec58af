"""The work of tuning: codecs and the model around them trained on, or a model anew with codecs in it from the start."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file
from torch import Tensor, nn

from etude.compress.codec import Text
from etude.compress.compressor import Compressor, weights_of
from etude.compress.experts import Experts
from etude.compress.recipes import Continue, TrainSqueezed, Tune
from etude.compress.saved import load_compressor
from etude.compress.score import harm
from etude.compress.sparse import Sparse
from etude.compress.tuning import Course, Tuner, tune
from etude.compress.work import WINDOWS, host_of, keep_windows, measured
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.evals.loss import batch_for, batches, chosen_windows
from etude.evals.splits import windows_of
from etude.evals.statistics import paired
from etude.models.load import load
from etude.models.saved import save_model
from etude.models.transformer import Transformer
from etude.text.batches import IGNORE, Examples
from etude.text.data import TextData
from etude.train.schedule import Schedule
from etude.train.work import new_model


def tuned(recipe: Tune, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Train a compressor on in its place, the model around it, or both, and measure the harm to the model as it was."""
    began, squeezed = time.monotonic(), recipe.of
    host = host_of(squeezed.of, inputs, squeezed.evaluate_tokens, squeezed.sequences)
    compressor, moves = load_compressor(inputs[squeezed]), recipe.trains != "codec"
    compressor.require(host.model)
    model = copy.deepcopy(host.model) if moves else host.model
    examples = windows_of(squeezed.of, TextData.open(inputs[squeezed.of.text]), "train")
    tune(Tuner(model, compressor, examples, course_of(recipe), teacher=host.model), run)
    if recipe.steps:
        measure_again(model, compressor, examples, chosen_windows(examples, squeezed.fit_tokens))
    seconds = time.monotonic() - began
    if moves:
        compressor = kept_host(model, compressor, inputs[squeezed.of], run)
    found = measured(host, compressor, run, inside=model if moves else None)
    before = inputs[squeezed].result["harm"]
    return {
        "site": squeezed.site,
        "method": squeezed.method.name,
        "size": squeezed.method.size,
        "steps": recipe.steps,
        **found,
        "before": {name: before[name] for name in ("loss", "increase", "kl", "accuracy", "explained")},
        "control": _beyond(recipe.control(), inputs, run),
        "timing": {"fit": seconds, **found["timing"]},
    }


def continued(recipe: Continue, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Train a model on with nothing in it, and measure what that does to it."""
    host = host_of(recipe.of, inputs, recipe.evaluate_tokens, recipe.sequences)
    model, nothing = copy.deepcopy(host.model), Compressor({})
    examples = windows_of(recipe.of, TextData.open(inputs[recipe.of.text]), "train")
    tune(Tuner(model, nothing, examples, course_of(recipe)), run)
    kept_host(model, nothing, inputs[recipe.of], run)
    found = harm(host, nothing, inside=model)
    keep_windows(found, run)
    return {"steps": recipe.steps, "harm": found.to_json()}


def trained_squeezed(recipe: TrainSqueezed, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Train a model anew with a compressor in it, and measure it against the model that was trained without."""
    began, train, squeezed = time.monotonic(), recipe.train, recipe.of
    host = host_of(train, inputs, squeezed.evaluate_tokens, squeezed.sequences)
    data = TextData.open(inputs[train.data])
    model = new_model(replace(train, device="cpu"), data, inputs).eval()
    compressor = load_compressor(inputs[recipe.untrained])
    compressor.require(model)
    examples = windows_of(train, data, "train")
    tune(Tuner(model, compressor, examples, course_of_training(recipe)), run)
    measure_again(model, compressor, examples, chosen_windows(examples, squeezed.fit_tokens))
    seconds = time.monotonic() - began
    compressor = kept_host(model, compressor, inputs[train], run)
    found = measured(host, compressor, run, inside=model)
    return {
        "site": squeezed.site,
        "method": squeezed.method.name,
        "size": squeezed.method.size,
        "steps": train.steps,
        **found,
        "timing": {"fit": seconds, **found["timing"]},
    }


def course_of(recipe: Tune | Continue) -> Course:
    """Return how a model or a compressor in it is trained on."""
    trains, objective, prior = "host", "loss", 0.0
    if isinstance(recipe, Tune):
        trains, objective, prior = recipe.trains, recipe.objective, recipe.prior
    schedule = Schedule(peak=recipe.rate, warmup=max(1, recipe.steps // 20), floor=0.0)
    return Course(trains, objective, recipe.steps, recipe.batch, recipe.seed, schedule, prior=prior)


def course_of_training(recipe: TrainSqueezed) -> Course:
    """Return how a model is trained anew: as its training says, but for the codec beside it."""
    train = recipe.train
    names = ("steps", "batch", "seed", "schedule", "optimiser", "clip", "precision")
    how = {name: getattr(train, name) for name in names}
    return Course(recipe.trains, "loss", **how, prior=recipe.prior, dropout=True)


def kept_host(model: Transformer, compressor: Compressor, source: Run, run: Draft) -> Compressor:
    """Write a model that was trained, with the tokenizer of the one that it was before, into a run. Return the
    compressor as one that belongs to it."""
    save_model(model, run.path)
    load(source)[1].save(run.path)
    return Compressor(compressor.parts, weights_of(model))


@torch.no_grad()
def measure_again(model: Transformer, compressor: Compressor, examples: Examples, windows: np.ndarray) -> None:
    """Have sparse codecs take note of how often their latents are not zero, and experts of how often each acts, which
    their cost follows from: training changed that. Each is measured on what it reads with all of them in their places.

    Args:
        model: that they stand in.
        compressor: the codecs.
        examples: the training split.
        windows: those of its windows that they were fitted to.
    """
    counted = [part.codec for part in compressor.parts.values() if isinstance(part.codec, Sparse | Experts)]
    read: dict[nn.Module, list[tuple[Tensor, ...]]] = {codec: [] for codec in counted}

    def note(codec: nn.Module, args: tuple[Any, ...]) -> None:
        x, *text = args
        read[codec].append((x[scored], *(part[scored] for said in text for part in said)))

    hooks = [codec.register_forward_pre_hook(note) for codec in counted]
    size = batch_for(model.vocabulary, examples.context)
    for text in batches(examples, windows, next(model.parameters()).device, size) if counted else ():
        scored = text.targets != IGNORE
        with compressor.standing(model):
            model(text.inputs, **text.given)
    for hook, codec in zip(hooks, counted, strict=True):
        hook.remove()
        x, *text = map(torch.cat, zip(*read[codec], strict=True))
        if isinstance(codec, Experts):
            codec.measure_rate(x.float(), Text(*text))
        else:
            codec.measure_rate(x.float())


def _beyond(control: Continue | None, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any] | None:
    """Return what the steps alone did to the loss, and how far the tuned model's is above that, paired by window."""
    if control is None:
        return None
    alone, here = inputs[control].tensors(WINDOWS), load_file(run.path / WINDOWS)
    return {
        "increase": inputs[control].result["harm"]["increase"],
        "beyond": paired(here["loss"], alone["loss"], alone["count"]).to_json(),
    }
