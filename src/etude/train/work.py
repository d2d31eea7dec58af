"""The work of training recipes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.core.seeds import stream
from etude.evals.loss import Scores, chosen_windows, score
from etude.models.load import load
from etude.models.saved import SHAPE, WEIGHTS, load_model, save_model
from etude.models.transformer import Transformer
from etude.nn.precision import device_named
from etude.text.batches import Examples, Openings, Windows
from etude.text.corpora.mix import Mix
from etude.text.data import TextData
from etude.text.parts import Parts
from etude.train.checkpoint import load_state, save_state
from etude.train.choices import said
from etude.train.loop import advance
from etude.train.recipes import At, Train
from etude.train.start import begun
from etude.train.together import Together, together
from etude.train.trainer import Trainer
from etude.train.utilisation import utilisation

STATE = "state"
"""Folder, in a training's run, of the state that it can be extended from."""


def train(recipe: Train, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Train a model, score it before and after on the validation split, and save it beside its tokenizer."""
    with together(run, recipe.device) as others:
        return _train(recipe, inputs, run, others)


def _train(recipe: Train, inputs: Mapping[Recipe, Run], run: Draft, others: Together) -> dict[str, Any]:
    data = TextData.open(inputs[recipe.data], inputs)
    run.note(data={"corpus": recipe.data.corpus.to_json(), "tokens": inputs[recipe.data].id}, ranks=others.size)
    run.say(said(recipe))
    held_out = Held(recipe, data, others)
    model = new_model(recipe, data, inputs)
    examples = recipe.objective.examples(data, "train", recipe.context)
    forward = float(recipe.objective.flops_per_token(recipe.model, data.vocabulary, examples.context))
    shortened = too_long(examples)
    if any(shortened.values()):
        run.say(f"{recipe.id}: longer than the context of {examples.context}: training samples {described(shortened)}")
    began = time.monotonic()
    untrained = held_out.score(model)
    trainer = Trainer(recipe, model, examples, forward, others)
    best = Best(recipe, run)

    def evaluate(taken: int) -> dict[str, Any]:
        fresh = taken == 0 and not trainer.sharded  # the very weights that were scored above
        row = held_out.row(trainer.given, untrained if fresh else None)
        best.offer(trainer, row["val_loss"])
        return row

    def keep(taken: int) -> None:
        trainer.save(kept_folder(run.path, taken, make=True))

    with closing(trainer):
        taken = advance(
            trainer,
            run,
            steps=recipe.steps,
            log_every=recipe.log_every,
            evaluate=evaluate,
            evaluate_every=recipe.evaluate_every,
            keep=keep,
            keep_every=recipe.keep_every,
            enough=best.enough if recipe.patience else None,
            begin=_begin(recipe, inputs),
            per_step=recipe.batch * examples.context,
            others=others,
        )
    if recipe.keep_state:  # before the best weights take the place of the last ones
        state = trainer.state()  # all processes have to ask
        if others.first:
            (run.path / STATE).mkdir(exist_ok=True)
            save_state(run.path / STATE, taken, state)
    if recipe.patience:
        best.give(trainer)
        held_out.latest = None
    final = held_out.latest or held_out.score(trainer.given)
    trainer.save(run.path)
    data.tokenizer.save(run.path)
    run.save("validation.safetensors", final.arrays())
    parameters = sum(p.numel() for p in model.parameters())
    tokens = taken * recipe.batch * examples.context
    flops = 3.0 * forward * tokens
    seconds = {"training_seconds": round(time.monotonic() - began, 2)}
    speed = utilisation(run.rows(), forward, flops, trainer.device, recipe.precision, others.size)
    return {
        "steps": taken,
        **({"best_step": best.step} if recipe.patience else {}),
        "tokens": tokens,
        "parameters": parameters,
        "flops": flops,
        "flops_6nd": 6.0 * parameters * tokens,
        "epochs": taken * recipe.batch / len(examples),
        **shortened,
        "validation": held_out.summary(final) | held_out.beside(trainer.given),
        "untrained": held_out.summary(untrained),
        "timing": {**seconds, **speed},
    }


def too_long(examples: Examples) -> dict[str, int]:
    """Return how many samples were left out, or cut, because they are longer than the context, where they can be."""
    return {name: int(getattr(examples, name)) for name in ("left_out", "cut") if hasattr(examples, name)}


def described(shortened: Mapping[str, int]) -> str:
    """Return the counts of `too_long` in words."""
    return " and ".join(f"{name.replace('_', ' ')} {count}" for name, count in shortened.items() if count)


class Held:
    """The samples that a training is scored on, and its last scores.

    Attributes:
        parts: tells the parts of a mix apart, where the text is one and is predicted token by token.
        latest: the scores that were made last.
    """

    def __init__(self, recipe: Train, data: TextData, others: Together) -> None:
        self.examples: Examples = recipe.objective.examples(data, "valid", recipe.context)
        self.windows = chosen_windows(self.examples, recipe.evaluate_tokens)
        self.objective, self.precision = recipe.objective, recipe.precision
        self.tokens_per_byte = data.tokens_per_byte("valid") if recipe.objective.per_byte else None
        mixed = isinstance(recipe.data.corpus, Mix) and isinstance(self.examples, Windows | Openings)
        self.parts = Parts(self.examples) if mixed else None
        self.others = others
        self.latest: Scores | None = None

    def score(self, model: Transformer) -> Scores:
        """Return a model's scores, each process scoring its share. All have as many windows to read, the last ones
        twice where they do not divide, because a model that is divided among them is read by all at once."""
        n, size = len(self.windows), self.others.size
        asked = np.resize(self.windows, -(-n // size) * size)[self.others.rank :: size]
        mine = score(model, self.examples, asked, precision=self.precision, parts=self.parts)
        found = self.others.gathered(mine.arrays())
        turns = {name: np.stack([theirs[name] for theirs in found], 1) for name in found[0]}
        return Scores(**{name: array.reshape(-1, *array.shape[2:])[:n] for name, array in turns.items()})

    def summary(self, scores: Scores) -> dict[str, Any]:
        """Return scores as a result has them."""
        return scores.summary(self.tokens_per_byte, self.parts.names if self.parts else ())

    def beside(self, model: Transformer) -> dict[str, Any]:
        """Return what the objective has to say of a model beside its scores. Each process reads all of it."""
        return self.objective.beside(model, self.examples, self.windows, self.precision)

    def row(self, model: Transformer, scores: Scores | None = None) -> dict[str, Any]:
        """Return what a row of the record says of a model, whose scores may be known."""
        self.latest = scores or self.score(model)
        summary = self.summary(self.latest)
        row = {"val_loss": summary["loss"]["mean"], "val_accuracy": summary["accuracy"]["mean"]}
        row |= {"bits_per_byte": summary["bits_per_byte"]["mean"]} if self.tokens_per_byte else {}
        parts = {f"val_loss_{name}": part["loss"] for name, part in summary.get("parts", {}).items()}
        return row | {name: loss["mean"] for name, loss in parts.items() if loss}


class Best:
    """The weights of the least validation loss so far, for a training that stops early. What the record says decides,
    so a training that goes on after a kill decides as an unbroken one."""

    def __init__(self, recipe: Train, run: Draft) -> None:
        self.patience, self.run = recipe.patience, run
        self.folder = (run.beside or run.path) / run.scratch.name / "best"  # the first process writes, all read

    def offer(self, trainer: Trainer, loss: float) -> None:
        """Keep a trainer's model where its loss is the least so far."""
        before = [row["val_loss"] for row in self.run.rows() if "val_loss" in row]
        if self.patience and loss < min(before, default=float("inf")):
            if trainer.others.first:
                self.folder.mkdir(exist_ok=True)
            trainer.save(self.folder)

    def enough(self, rows: list[dict[str, Any]]) -> bool:
        """Return whether as many evaluations as there is patience for passed since the least loss."""
        losses = [row["val_loss"] for row in rows if "val_loss" in row]
        return bool(losses) and len(losses) - 1 - losses.index(min(losses)) >= self.patience

    @property
    def step(self) -> int:
        """The step whose weights are given: that of the first row with the least loss."""
        return min((row for row in self.run.rows() if "val_loss" in row), key=lambda row: row["val_loss"])["step"]

    def give(self, trainer: Trainer) -> None:
        """Put the kept weights into a trainer's model. The loop has waited until the first process had written them."""
        trainer.put(load_file(self.folder / WEIGHTS))


def new_model(recipe: Train, data: TextData, inputs: Mapping[Recipe, Run]) -> Transformer:
    """Return the recipe's model before training, on its device."""
    model = recipe.model.build(data.vocabulary, seed=stream(recipe.seed, "weights"))
    if recipe.start is not None:
        fresh = set(begun(model, inputs[recipe.start], data.tokenizer))
        for name, weight in model.named_parameters():
            weight.requires_grad_(not recipe.freeze or name in fresh)
    model.recompute = recipe.recompute == "yes"
    return model.to(device_named(recipe.device))


def _begin(recipe: Train, inputs: Mapping[Recipe, Run]) -> tuple[int, Any] | None:
    """Return the step and state that an extension goes on from."""
    if not recipe.extend or not isinstance(recipe.start, Train):
        return None
    before = inputs[recipe.start]
    step = int(before.result["steps"])
    name = f"{STATE}/checkpoint-{step:09d}.safetensors"
    for ending in (".json", ".safetensors"):
        before.file(name.removesuffix(".safetensors") + ending)
    return step, load_state(before.path / name)


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
        model = new_model(replace(recipe.of, device="cpu"), data, inputs)
    elif recipe.step == trained.result.get("best_step", recipe.of.steps):
        model, _ = load(trained)
    else:
        model = load_model(_kept(recipe, trained))
    save_model(model, run.path)
    data.tokenizer.save(run.path)
    return {"step": recipe.step, "parameters": sum(p.numel() for p in model.parameters())}


def _kept(recipe: At, trained: Run) -> Path:
    """Return the folder of a step that a training kept, its files checked."""
    folder, result = kept_folder(Path(), recipe.step), trained.result
    if recipe.step > result["steps"]:
        raise UsageError(f"the training stopped early, at step {result['steps']}, before {recipe.step}")
    if f"{folder.as_posix()}/{WEIGHTS}" not in trained.files:
        given = f"gives the weights of step {result['best_step']}" if "best_step" in result else "began later"
        raise UsageError(f"step {recipe.step} is not kept: the training {given}; see --of.keep-every")
    trained.file(f"{folder.as_posix()}/{SHAPE}")
    return trained.file(f"{folder.as_posix()}/{WEIGHTS}").parent
