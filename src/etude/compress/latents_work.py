"""The work of showing what the units of a code respond to and what they do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from etude.compress.compressor import Part
from etude.compress.contexts import responses
from etude.compress.recipes import Compress, Latents
from etude.compress.saved import load_compressor
from etude.compress.traversal import ENDS, OFFSETS, Moved, Traveller, Traversed, exchanged, settled, shifted
from etude.compress.units import NUMBER, Units, active, passed, rates, require_units, units_of, variances
from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.core.site import Site
from etude.evals.loss import chosen_windows
from etude.evals.splits import windows_of
from etude.evals.token_classes import token_classes
from etude.models.decoder_model import DecoderModel
from etude.models.load import load
from etude.text.batches import Examples
from etude.text.data import TextData
from etude.text.tokenizers.live import Tokenizer


class Studied(NamedTuple):
    """A compression opened, with the held-out text that it is studied on."""

    model: DecoderModel
    tokenizer: Tokenizer
    site: Site
    part: Part
    examples: Examples


def studied(squeezed: Compress, inputs: Mapping[Recipe, Run]) -> Studied:
    """Return what a compression holds, refused where its code has no units.

    Raises:
        UsageError: the model is no decoder, or the method codes nothing.
    """
    model, tokenizer = load(inputs[squeezed.of])
    if not isinstance(model, DecoderModel):
        raise UsageError(f"latents are shown of decoders, and the model is an {model.spec.name}")
    ((site, part),) = load_compressor(inputs[squeezed]).parts.items()
    require_units(part, squeezed.method.name)
    examples = windows_of(squeezed.of, TextData.open(inputs[squeezed.of.text]), "valid")
    return Studied(model.float(), tokenizer, site, part, examples)


def latents(recipe: Latents, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Find the held-out contexts of each unit, and what moving it does."""
    subject = studied(recipe.of, inputs)
    windows = chosen_windows(subject.examples, recipe.evaluate_tokens)
    seen = passed(subject.model, subject.site, subject.part, subject.examples, windows)
    units = units_of(seen.code, seen.real, recipe.of.method.counts)
    classes = token_classes(subject.tokenizer, subject.model.vocabulary)
    found = responses(units, seen.tokens, classes, recipe, subject.tokenizer)
    if recipe.traverse:
        few = windows[np.linspace(0, len(windows) - 1, min(recipe.traverse, len(windows))).round().astype(int)]
        among = np.unique(seen.tokens[seen.real])
        for unit, moved in zip(found, _traversed(subject, units, found, few, among, run), strict=True):
            unit["traversal"] = moved
    return {
        "latents": found,
        "of": len(units.names),
        "discrete": units.discrete,
        "active": active(variances(units)),
        "silent": int((rates(units) == 0).sum()),
        "site": recipe.of.site,
        "patch": _patched(recipe, subject) if recipe.clean else None,
    }


def _traversed(
    subject: Studied, units: Units, shown: list[dict[str, Any]], windows: np.ndarray, among: np.ndarray, run: Draft
) -> list[dict[str, Any]]:
    """Return what moving each shown unit does, on a few windows."""
    traveller = Traveller(subject.model, subject.site, subject.part)
    readings = list(traveller.readings(subject.examples, windows))
    told = []
    for unit in shown:
        number = unit["latent"]
        moves = _moves(units, number, unit["spread"])
        steps = list(moves)
        ends = (-1, 0) if None in moves else (steps.index(ENDS[0]), steps.index(ENDS[1]))
        parts = [traveller.traverse(reading, list(moves.values()), ends) for reading in readings]
        told.append(Traversed.joined(parts).to_json(steps, subject.tokenizer.piece, among))
        run.progress(len(told), len(shown), unit="latents", note="moving")
    return told


def _moves(units: Units, number: int, spread: float) -> dict[int | None, Moved]:
    """Return the moves of a unit by their size in standard deviations; an entry of a codebook is put everywhere."""
    column, entry = int(units.columns[number]), int(units.entry[number])
    if entry != NUMBER:
        return {None: settled(column, entry)}
    # A sparse code has no number below 0: what never passes is not put there either.
    lowest = 0.0 if float(np.nanmin(units.values[..., number])) >= 0 else None
    return {step: shifted(column, step * spread, lowest) for step in OFFSETS}


def _patched(recipe: Latents, subject: Studied) -> dict[str, Any]:
    """Return what each number of the code carries from one prompt to another."""
    traveller = Traveller(subject.model, subject.site, subject.part)
    prompts = [
        _tokens(text, name, subject) for name, text in (("clean", recipe.clean), ("corrupted", recipe.corrupted))
    ]
    right, wrong = (_token(text, subject) if text else None for text in (recipe.right, recipe.wrong))
    found = exchanged(traveller, prompts[0], prompts[1], right, wrong)
    named = {name: subject.tokenizer.piece(found[name]) for name in ("right", "wrong")}
    return {**found, **named}


def _tokens(text: str, name: str, subject: Studied) -> Tensor:
    ids, most = subject.tokenizer.encode(text), subject.model.spec.context
    if not 0 < len(ids) <= most:
        raise UsageError(f"the {name} prompt has {len(ids)} tokens: give 1 to {most}, which the model reads")
    return torch.tensor([ids])


def _token(text: str, subject: Studied) -> int:
    ids = subject.tokenizer.encode(text)
    if len(ids) != 1:
        raise UsageError(f"the answer {text!r} is {len(ids)} tokens to this tokenizer: choose one that is a token")
    return ids[0]
