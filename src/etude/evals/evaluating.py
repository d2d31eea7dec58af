"""The work of asking a model the items of a task."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from etude.core.files import replacing
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.evals import judging
from etude.evals.asking import Asker, Said
from etude.evals.fitted import Fitted
from etude.evals.items import ITEMS, Choice, Cloze, Item, Passage, Written
from etude.evals.items import items_of as items_of
from etude.evals.prompting import Prompter, prompt_hash
from etude.evals.task_recipes import Evaluate
from etude.evals.tasks.classification import Classification
from etude.evals.tasks.exact_match import ExactMatch
from etude.models.generation import generate
from etude.models.load import load
from etude.models.prepared import prepared
from etude.models.sampling import Sampling
from etude.models.transformer import Transformer
from etude.nn.precision import autocast
from etude.text.tokenizers.live import TOKENIZER_FILE, Tokenizer

SHOWN = 20
"""Rows that are no items of which the result says why."""

WRITTEN_AT_ONCE = 64
"""Answers that are written between two marks of how far the work is."""


def evaluate(recipe: Evaluate, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Ask a model the items of a task. Killed, it goes on with those that were not answered.

    Raises:
        UsageError: the model is no decoder, the file has no items, or prompts do not fit.
        DivergedError: a likelihood is not finite.
    """
    made = inputs[recipe.of]
    model, tokenizer = load(made)
    read, shown = recipe.task.read(), recipe.task.examples()
    prompter = Prompter(recipe.prompt, recipe.task.wording, read.items, shown.items if shown else None)
    chosen = _chosen(read.items, recipe.items)
    fitted = Fitted(recipe, tokenizer, min(recipe.of.context, model.spec.context), prompter, chosen)
    answered = _written if recipe.task.measure == "written" else _likelihoods
    items, rows = fitted.items, answered(recipe, model, tokenizer, fitted, run)
    ordered = [
        {"number": item.number, "where": item.where, "group": item.group} | row
        for item, row in zip(items, rows, strict=True)
    ]
    _write(run.path / ITEMS, ordered)
    spoiled = [*read.spoiled, *fitted.spoiled]
    result: dict[str, Any] = {
        "task": recipe.task.name,
        "measure": recipe.task.measure,
        "n": len(items),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "scores": judging.scores(ordered, judging.chance_of(items, tokenizer.vocabulary)) if items else {},
        "prompt": prompt_hash(fitted.asked),
        "tokenizer": made.files[TOKENIZER_FILE]["sha256"][:12],
        "too_long": fitted.too_long,
        "spoiled": len(spoiled),
        "spoiled_shown": spoiled[:SHOWN],
    }
    if not items:  # none fits: the study that asked goes on without it
        return result
    if (blind := judging.blind(ordered)) is not None:
        result |= {"always_one": blind[1], "calibration": judging.calibration(ordered)}
    if isinstance(recipe.task, Classification):
        result["macro_f1"] = judging.macro_f1(ordered, len(recipe.task.labels))
    groups = sorted({item.group for item in items} - {""})
    if groups:
        by = {group: [row for row in ordered if row["group"] == group] for group in groups}
        chance = {g: judging.chance_of([i for i in items if i.group == g], tokenizer.vocabulary) for g in groups}
        result["groups"] = {group: judging.scores(rows, chance[group]) for group, rows in by.items()}
    return result


def _likelihoods(
    recipe: Evaluate, model: Transformer, tokenizer: Tokenizer, fitted: Fitted, run: Draft
) -> list[judging.Row]:
    """Return what the likelihood of each item's answers, or text, comes to."""
    asker, kept = Asker(model, recipe.at_once), Kept(run.scratch / ITEMS)
    keys = [f"{n} {part}" for n, parts in enumerate(fitted.requests) for part in range(len(parts))]
    groups = [group for parts in fitted.requests for group in parts]
    for batch in asker.batches(groups):
        if not all(keys[g] in kept for g in batch.groups):
            with autocast(torch.device("cpu"), recipe.precision):
                answers = asker.answer(groups, batch)
            kept.add({keys[g]: [list(one) for one in said] for g, said in zip(batch.groups, answers, strict=True)})
        run.progress(len(kept), len(groups), unit="questions")
    return [_judged(recipe, fitted, n, kept) for n in range(len(fitted.items))]


def _judged(recipe: Evaluate, fitted: Fitted, n: int, kept: Kept) -> judging.Row:
    item, asked = fitted.items[n], fitted.asked[n]
    said = [[Said(*one) for one in kept[f"{n} {part}"]] for part in range(len(fitted.requests[n]))]
    if isinstance(item, Passage):
        return judging.judged_text(item, [one for (one,) in said])
    if isinstance(item, Cloze):
        return judging.judged_cloze(item, said[0][0])
    assert isinstance(item, Choice), "what is written has no likelihoods"
    delimiter = len(recipe.prompt.worded(recipe.task.wording).delimiter)
    words = [answer[delimiter:] for answer in asked.answers]
    return judging.judged_choice(item, words, said[0], said[1] if recipe.bare else None)


def _written(
    recipe: Evaluate, model: Transformer, tokenizer: Tokenizer, fitted: Fitted, run: Draft
) -> list[judging.Row]:
    """Return what the answers come to that a model writes, always with the likeliest token."""
    task = recipe.task
    assert isinstance(task, ExactMatch), "no other task has answers written"
    kept, rows = Kept(run.scratch / ITEMS), list[judging.Row]()
    sampling = Sampling(temperature=0.0, max_tokens=task.max_tokens, stop=task.stop)
    ready = prepared(model, recipe.precision, WRITTEN_AT_ONCE)
    order = sorted(range(len(fitted.items)), key=lambda n: (-len(fitted.prompts[n]), fitted.prompts[n]))
    for start in range(0, len(order), WRITTEN_AT_ONCE):
        part = [n for n in order[start : start + WRITTEN_AT_ONCE] if str(n) not in kept]
        if part:
            prompts = [fitted.prompts[n] for n in part]
            texts = generate(model, tokenizer, prompts, sampling, batch=WRITTEN_AT_ONCE, ready=ready)
            kept.add({str(n): text.text for n, text in zip(part, texts, strict=True)})
        run.progress(len(kept), len(order), unit="answers")
    for n, item in enumerate(fitted.items):
        assert isinstance(item, Written), "every item of this task is answered in writing"
        rows.append(judging.judged_written(item, kept[str(n)], task.take))
    return rows


class Kept:
    """Answers by key, in a file that grows line by line and survives a kill; a line that was cut off is not read.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._held, whole = path, dict[str, Any](), 0
        if path.exists():
            lines = path.read_bytes().splitlines(keepends=True)
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                self._held |= json.loads(line)
            os.truncate(path, whole)

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, key: str) -> bool:
        return key in self._held

    def __getitem__(self, key: str) -> Any:
        return self._held[key]

    def add(self, answers: Mapping[str, Any]) -> None:
        """Keep answers."""
        self._held |= answers
        with self._path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(answers, allow_nan=False) + "\n")


def _write(path: Path, rows: Sequence[judging.Row]) -> None:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def _chosen(items: Sequence[Item], wanted: int) -> list[Item]:
    """Return so many items, spread evenly; 0 gives all."""
    if not wanted or wanted >= len(items):
        return list(items)
    return [items[n] for n in np.linspace(0, len(items) - 1, wanted).round().astype(int)]
