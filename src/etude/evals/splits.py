"""The work of scoring a model on a split, and of what it has to beat there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, cast

import numpy as np

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.evals.baselines import Baseline, Bigram, Uniform, count_pairs, score_baseline
from etude.evals.loss import bits_per_byte, chosen_windows, score
from etude.evals.recipes import Floor, Score
from etude.evals.statistics import ratio
from etude.models.load import load
from etude.models.recipes import ModelRecipe
from etude.models.transformer import Transformer
from etude.text.batches import IGNORE, Examples
from etude.text.data import TextData
from etude.text.masking import MaskedTexts

AT_ONCE = 1024
"""Samples that a baseline reads at once."""


class Asked(Protocol):
    """What is asked of a model: an objective, as a training has one."""

    per_byte: bool

    def examples(self, data: TextData, split: str, context: int) -> Examples:
        """Return the samples of a split."""
        ...

    def beside(self, model: Transformer, examples: Examples, windows: np.ndarray, precision: str) -> dict[str, Any]:
        """Return what else is said of a model."""
        ...


def asked_of(of: ModelRecipe) -> Asked | None:
    """Return the objective that a model was trained on, or None for one brought in, which is asked for next tokens."""
    return cast("Asked | None", getattr(trained_of(of), "objective", None))


def trained_of(of: ModelRecipe) -> ModelRecipe:
    """Return the training that a model is of: its own, or that of the checkpoint that is looked at, on any text."""
    while isinstance(inner := getattr(of, "of", None), ModelRecipe):
        of = inner
    return of


def samples(of: ModelRecipe, data: TextData, split: str) -> Examples:
    """Return the samples of a split that a model is scored on."""
    asked = asked_of(of)
    return data.examples(split, of.context) if asked is None else asked.examples(data, split, of.context)


def windows_of(of: ModelRecipe, data: TextData, split: str) -> Examples:
    """Return the samples of a split as plain text, for instruments that look at a model, whatever it was trained to say
    of them. Where its training kept documents apart, so do these.

    Raises:
        UsageError: its training counted positions anew in each document; or the split is too short.
    """
    asked = asked_of(of)
    if asked is None or not getattr(asked, "apart", False):
        return data.examples(split, of.context)
    if getattr(asked, "restart", False):
        raise UsageError(
            "this model counts positions anew in each document of a window, which instruments do not: choose one"
            " trained with objective.restart off"
        )
    return asked.examples(data, split, of.context)


def score_split(recipe: Score, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Score a model on a split, and keep the sums of each sample, so that models can be compared in pairs."""
    data, asked = TextData.open(inputs[recipe.of.text], inputs), asked_of(recipe.of)
    examples = samples(recipe.of, data, recipe.split)
    windows = chosen_windows(examples, recipe.tokens)
    model, _ = load(inputs[recipe.of])
    precision = getattr(trained_of(recipe.of), "precision", "fp32")
    scores = score(
        model,
        examples,
        windows,
        precision=precision,
        progress=lambda done, total: run.progress(done, total, unit="samples"),
    )
    run.save("scores.safetensors", scores.arrays())
    found = scores.summary(_tokens_per_byte(asked, data, recipe.split))
    more = asked.beside(model, examples, windows, precision) if asked else {}
    return {**found, **more, "samples": len(windows), "of": len(examples)}


def _tokens_per_byte(asked: Asked | None, data: TextData, split: str) -> float | None:
    return data.tokens_per_byte(split) if asked is None or asked.per_byte else None


def floor(recipe: Floor, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Score the baselines of a model's objective on the samples that the model is scored on."""
    data = TextData.open(inputs[recipe.of.text], inputs)
    examples = samples(recipe.of, data, recipe.split)
    windows = chosen_windows(examples, recipe.tokens)
    classes = examples.batch(windows[:1]).targets.ndim == 1
    found = _of_classes(data, examples, windows) if classes else _of_tokens(recipe, data, examples, windows)
    scale = _tokens_per_byte(asked_of(recipe.of), data, recipe.split)
    results: dict[str, Any] = {}
    for name, (loss, right, count) in found.items():
        run.save(f"{name}.safetensors", {"loss": loss, "right": right, "count": count})
        estimate = ratio(loss, count)
        results[name] = {"loss": estimate.to_json(), "accuracy": ratio(right, count).to_json()}
        if scale is not None:
            results[name]["bits_per_byte"] = bits_per_byte(estimate, scale).to_json()
    return {"baselines": results, "samples": len(windows), "of": len(examples)}


Sums = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Of each sample: summed loss, right guesses, targets."""


def _of_classes(data: TextData, examples: Examples, windows: np.ndarray) -> dict[str, Sums]:
    """Chance knows how many classes there are; the majority how often each came in the training split, with one added
    to each count."""
    store = data.store("train")
    seen = np.bincount(np.asarray(store.labels), minlength=len(store.classes))
    labels = np.concatenate([examples.batch(part).targets for part in _parts(windows)])
    share, ones = (seen + 1) / (seen.sum() + len(seen)), np.ones(len(labels))
    even = np.full(len(labels), 1 / len(seen))
    return {
        "chance": (-np.log(even), even, ones),
        "majority": (-np.log(share[labels]), (labels == seen.argmax()).astype(np.float64), ones),
    }


def _of_tokens(recipe: Floor, data: TextData, examples: Examples, windows: np.ndarray) -> dict[str, Sums]:
    masked = isinstance(examples, MaskedTexts)
    taught = data.examples("train", recipe.of.context) if masked else samples(recipe.of, data, "train")
    bigram = Bigram(count_pairs(taught))
    models: dict[str, Baseline] = {"uniform": Uniform(data.vocabulary), "unigram": bigram.unigram, "bigram": bigram}
    parts: dict[str, list[Sums]] = {name: [] for name in models}
    for chosen in _parts(windows):
        batch = examples.batch(chosen)
        before = batch.inputs
        if isinstance(examples, MaskedTexts):
            before = np.roll(before, 1, axis=1)
            before[:, 0] = examples.mask  # nothing is known of what stands before the sample
        for name, model in models.items():
            parts[name].append((*score_baseline(model, before, batch.targets), (batch.targets != IGNORE).sum(1)))
    return {name: cast(Sums, tuple(map(np.concatenate, zip(*sums, strict=True)))) for name, sums in parts.items()}


def _parts(windows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(windows), AT_ONCE):
        yield windows[start : start + AT_ONCE]
