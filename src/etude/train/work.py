"""The work of training recipes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.core.seeds import stream
from etude.evals.loss import Scores, chosen_windows, score
from etude.models.decoder_model import DecoderModel
from etude.models.load import load
from etude.models.saved import SHAPE, WEIGHTS, load_model, save_model
from etude.nn.precision import device_named
from etude.text.data import TextData
from etude.train.loop import advance
from etude.train.recipes import At, Train
from etude.train.trainer import Trainer


def train(recipe: Train, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Train a model, score it before and after on the validation split, and save it beside its tokenizer."""
    data = TextData.open(inputs[recipe.data])
    run.note(data={"corpus": recipe.data.corpus.to_json(), "tokens": inputs[recipe.data].id})
    model = new_model(recipe, data)
    model.recompute = recipe.recompute
    examples, held_out = data.examples("train", recipe.model.context), data.examples("valid", recipe.model.context)
    forward = float(recipe.model.flops_per_token(data.vocabulary, examples.context))
    windows = chosen_windows(held_out, recipe.evaluate_tokens)

    def evaluate(taken: int) -> dict[str, Any]:
        nonlocal scores
        scores = score(model, held_out, windows, precision=recipe.precision)
        summary = scores.summary(data.tokens_per_byte("valid"))
        return {
            "val_loss": summary["loss"]["mean"],
            "val_accuracy": summary["accuracy"]["mean"],
            "bits_per_byte": summary["bits_per_byte"]["mean"],
        }

    scores: Scores | None = None
    began = time.monotonic()
    untrained = score(new_model(recipe, data), held_out, windows, precision=recipe.precision)
    advance(
        Trainer(recipe, model, examples, forward),
        run,
        steps=recipe.steps,
        log_every=recipe.log_every,
        evaluate=evaluate,
        evaluate_every=recipe.evaluate_every,
        keep=lambda taken: save_model(model, kept_folder(run.path, taken, make=True)),
        keep_every=recipe.keep_every,
        per_step=recipe.batch * examples.context,
    )
    final = scores or score(model, held_out, windows, precision=recipe.precision)
    save_model(model, run.path)
    data.tokenizer.save(run.path)
    run.save("validation.safetensors", final.arrays())
    return {
        "steps": recipe.steps,
        "tokens": recipe.tokens,
        "parameters": sum(p.numel() for p in model.parameters()),
        "flops": 3.0 * forward * recipe.tokens,
        "epochs": recipe.steps * recipe.batch / len(examples),
        "validation": final.summary(data.tokens_per_byte("valid")),
        "untrained": untrained.summary(data.tokens_per_byte("valid")),
        "timing": {"training_seconds": round(time.monotonic() - began, 2)},
    }


def new_model(recipe: Train, data: TextData) -> DecoderModel:
    """Return the recipe's model before training, on its device."""
    return recipe.model.build(data.vocabulary, seed=stream(recipe.seed, "weights")).to(device_named(recipe.device))


def kept_folder(run: Path, step: int, *, make: bool = False) -> Path:
    """Return the folder, inside a training's run, of the model that was kept after a step."""
    folder = run / "steps" / f"{step:09d}"
    if make:
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def at(recipe: At, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Bring back the model of a step, as a run of its own."""
    trained, data = inputs[recipe.of], TextData.open(inputs[recipe.of.data])
    if recipe.step == 0:
        model = new_model(recipe.of, data)
    elif recipe.step == recipe.of.steps:
        model, _ = load(trained)
    else:
        folder = kept_folder(Path(), recipe.step)
        trained.file(f"{folder.as_posix()}/{SHAPE}")
        model = load_model(trained.file(f"{folder.as_posix()}/{WEIGHTS}").parent)
    save_model(model, run.path)
    data.tokenizer.save(run.path)
    return {"step": recipe.step, "parameters": sum(p.numel() for p in model.parameters())}
