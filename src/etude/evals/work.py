"""The work of evaluation recipes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.core.seeds import stream
from etude.evals.baselines import Baseline, Bigram, Uniform, count_pairs, score_baseline
from etude.evals.behaviours import HeadScores, head_scores, repeats, tokens_in
from etude.evals.loss import bits_per_byte, chosen_windows
from etude.evals.recipes import Baselines, Heads
from etude.evals.statistics import mean, ratio
from etude.models.load import load
from etude.text.batches import IGNORE
from etude.text.data import TextData


def baselines(recipe: Baselines, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Fit the baselines on the training split and score them on the validation split."""
    data = TextData.open(inputs[recipe.data])
    examples = data.examples("valid", recipe.context)
    windows = chosen_windows(examples, recipe.evaluate_tokens)
    read = examples.batch(windows)
    before, targets = read.inputs, read.targets
    bigram = Bigram(count_pairs(data.examples("train", recipe.context)))
    models: dict[str, Baseline] = {"uniform": Uniform(data.vocabulary), "unigram": bigram.unigram, "bigram": bigram}
    count = (targets != IGNORE).sum(1)
    found: dict[str, Any] = {}
    for name, model in models.items():
        loss, right = score_baseline(model, before, targets)
        run.save(f"{name}.safetensors", {"loss": loss, "right": right, "count": count})
        estimate = ratio(loss, count)
        found[name] = {
            "loss": estimate.to_json(),
            "accuracy": ratio(right, count).to_json(),
            "bits_per_byte": bits_per_byte(estimate, data.tokens_per_byte("valid")).to_json(),
        }
    return {"baselines": found, "tokens": int(count.sum())}


def heads(recipe: Heads, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Score every head, and the loss where the answer has been seen against where it cannot be known."""
    model, tokenizer = load(inputs[recipe.of])
    model = model.float()  # scores of a model in bf16 are those that it would have in fp32
    among = tokens_in(TextData.open(inputs[recipe.of.text])) if recipe.drawn == "text" else tokenizer.vocabulary
    sequences = repeats(recipe.sequences, recipe.of.context, among, stream(recipe.seed, "repeats"))
    scores = head_scores(model, sequences)
    layers, count = scores.induction.shape[1:]
    return {
        "heads": [_head(scores, layer, head) for layer in range(layers) for head in range(count)],
        "chance": float(scores.chance.mean()) if layers else None,  # over layers too: each head has its own layer's
        "repeated_loss": mean(scores.repeated_loss).to_json(),
        "fresh_loss": mean(scores.fresh_loss).to_json(),
        "gain": mean(scores.fresh_loss - scores.repeated_loss).to_json(),
        "uniform_loss": float(np.log(among if isinstance(among, int) else len(among))),
    }


def _head(scores: HeadScores, layer: int, head: int) -> dict[str, Any]:
    """Return the scores of one head by kind, and what even attention in its layer would give; off_period is None where
    there is no other period."""
    kinds = ("previous", "duplicate", "induction", "off_period", "first")
    of_kind = {kind: getattr(scores, kind)[:, layer, head] for kind in kinds}
    found = {kind: None if np.isnan(values).any() else mean(values).to_json() for kind, values in of_kind.items()}
    return {"head": f"L{layer}H{head}", **found, "chance": float(scores.chance[:, layer].mean())}
