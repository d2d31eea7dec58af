"""The work of lenses and attribution: tables and arrays that a page can draw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.evals.loss import chosen_windows
from etude.evals.splits import windows_of
from etude.interp.attribution import Attribution, attribute
from etude.interp.gradients import integrated_gradients
from etude.interp.lenses import Translators, logit_lens
from etude.interp.metrics import LogitDifference
from etude.interp.recipes import Attribute, Lens, TunedLens
from etude.interp.subject import subject
from etude.interp.tuned_lens import lens_divergence, train_tuned_lens
from etude.text.data import TextData

TRANSLATORS = "translators.safetensors"


def tuned_lens(recipe: TunedLens, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Train translators on the training split, and compare both lenses on the validation split."""
    on = subject(inputs[recipe.of])
    data = TextData.open(inputs[recipe.of.text])
    translators = train_tuned_lens(
        on.model,
        windows_of(recipe.of, data, "train"),
        steps=recipe.steps,
        batch=recipe.batch,
        rate=recipe.rate,
        seed=recipe.seed,
        run=run,
    )
    save_file({name: value.contiguous() for name, value in translators.state_dict().items()}, run.path / TRANSLATORS)
    held_out = windows_of(recipe.of, data, "valid")
    windows = chosen_windows(held_out, recipe.evaluate_tokens)
    return {
        "logit_lens": lens_divergence(on.model, held_out, windows).tolist(),
        "tuned_lens": lens_divergence(on.model, held_out, windows, translators).tolist(),
        "windows": len(windows),
        "notices": list(on.notices),
    }


def translators_of(run: Run) -> Translators:
    """Return the translators that a run trained."""
    state = load_file(run.file(TRANSLATORS))
    translators = Translators(*state["b"].shape)
    translators.load_state_dict(state)
    return translators.requires_grad_(False)


def lens_table(recipe: Lens, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Read a text's every layer, and keep what each lens predicts."""
    on = subject(inputs[recipe.of])
    ids = on.tokens(recipe.text)
    top = min(recipe.top, on.model.vocabulary)
    translators = translators_of(inputs[recipe.lens]) if recipe.lens else None
    table = logit_lens(on.model, torch.tensor([ids]), top, translators)
    arrays = {name: getattr(table, name)[:, 0].numpy() for name in vars(table)}
    run.save("lens.safetensors", arrays)
    layers = on.model.spec.layers
    return {
        "tokens": on.pieces(ids),
        "ids": ids,
        "rows": [f"before L{layer}" for layer in range(layers)] + ["the model"],
        "pieces": {str(i): on.piece(i) for i in np.unique(arrays["tokens"]).tolist()},
        "vocabulary": on.model.vocabulary,
        "loss": _mean(-table.log_probability[:, 0]),
        "entropy": _mean(table.entropy[:, 0]),
        "divergence": _mean(table.divergence[:, 0]),
        "notices": list(on.notices),
    }


def _mean(values: Tensor) -> list[float] | None:
    """Return the mean over positions that have a value, for each layer; None where no position has."""
    known = values.isfinite().all(0)
    return values[:, known].double().mean(1).tolist() if known.any() else None


def attributed(recipe: Attribute, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Divide a logit among the parts that wrote it, and among the text's tokens."""
    on = subject(inputs[recipe.of])
    ids = on.tokens(recipe.text)
    text = torch.tensor([ids])
    at = on.place(recipe.position, len(ids))
    token = on.token(recipe.token) if recipe.token else on.likeliest(text, at)
    versus = on.token(recipe.versus) if recipe.versus else None
    if token == versus:
        raise UsageError(f"the logit of {on.piece(token)!r} over itself is 0: name another token to compare it with")
    found = attribute(on.model, text, token=token, position=at, versus="mean" if versus is None else versus)
    moved = integrated_gradients(
        on.model, text[:, : at + 1], LogitDifference(token, "mean" if versus is None else versus)
    )
    run.save(
        "attribution.safetensors",
        {
            "by_source": found.by_source.numpy(),
            "heads": found.heads.numpy(),
            "neurons": found.neurons.numpy(),
            "positions": found.positions().numpy(),
            "gradients": moved.scores[0].numpy(),
        },
    )
    return {
        "tokens": on.pieces(ids),
        "ids": ids,
        "position": at,
        "token": on.piece(token),
        "versus": None if versus is None else on.piece(versus),
        "next": on.piece(ids[at + 1]) if at + 1 < len(ids) else None,
        "logit": float(found.logit),
        "total": float(found.total()),
        "parts": _parts(found),
        "neurons": _strongest(found, recipe.neurons),
        "completeness": float(moved.completeness.max()),
        "change": float(moved.change.sum()),
        "notices": list(on.notices),
    }


def _parts(found: Attribution) -> list[dict[str, Any]]:
    """Return what each part wrote, in the order in which it wrote."""
    parts: list[tuple[str, Tensor]] = [("embedding", found.embedding), ("position", found.position_vector)]
    for layer, heads in enumerate(found.heads):
        parts += [(f"L{layer}H{head}", value) for head, value in enumerate(heads)]
        if found.neurons.shape[1]:
            parts.append((f"L{layer} feed-forward", found.neurons[layer].sum()))
        parts.append((f"L{layer} biases", found.attention_bias[layer] + found.feed_forward_bias[layer]))
    parts.append(("last biases", found.norm_bias + found.unembedding_bias))
    return [{"part": name, "value": float(value)} for name, value in parts]


def _strongest(found: Attribution, count: int) -> list[dict[str, Any]]:
    """Return the neurons that wrote most, either way."""
    flat = found.neurons.flatten()
    order = flat.abs().topk(min(count, len(flat))).indices.tolist()
    width = found.neurons.shape[1]
    return [{"neuron": f"L{i // width}N{i % width}", "value": float(flat[i])} for i in order]
