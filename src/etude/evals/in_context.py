"""How much a model learns within its context: the loss at each position, and how far it falls from an early one to a
late one (Olsson et al. 2022, "In-context Learning and Induction Heads", "Key Concepts").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch.nn.functional import cross_entropy

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.evals.loss import batch_for, batches, chosen_windows
from etude.evals.recipes import InContext
from etude.evals.splits import samples, trained_of
from etude.evals.statistics import Estimate, paired, ratio
from etude.models.decoder_model import DecoderModel
from etude.models.load import load
from etude.models.transformer import Transformer
from etude.nn.precision import autocast
from etude.text.batches import IGNORE, Examples
from etude.text.data import TextData


@torch.no_grad()
def position_losses(
    model: Transformer,
    examples: Examples,
    windows: np.ndarray,
    *,
    precision: str = "fp32",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Float[np.ndarray, "N T"]:
    """Return the cross-entropy of each prediction in nats, float64, NaN where nothing is predicted. Dropout is off.

    Column t is the prediction made when t + 1 tokens of the window have been read.

    Args:
        model: a decoder.
        examples: the split.
        windows: which of its windows.
        precision: as the training had it.
        progress: called with windows done and in all.

    Raises:
        UsageError: the model is no decoder, or what it says is not a token at each position.
    """
    if not isinstance(model, DecoderModel):
        raise UsageError(f"in-context learning is measured on decoders, and the model is an {model.spec.name}")
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    found, done = [], 0
    for inputs, targets, given in batches(examples, windows, device, batch_for(examples.vocabulary, examples.context)):
        with autocast(device, precision):
            logits = model(inputs, **given)
        loss = cross_entropy(logits.float().mT, targets, ignore_index=IGNORE, reduction="none")
        found.append(loss.cpu().double().masked_fill((targets == IGNORE).cpu(), torch.nan).numpy())
        done += len(inputs)
        progress(done, len(windows))
    model.train(was_training)
    return np.concatenate(found)


class Curve(NamedTuple):
    """The mean loss at each position, with 95% intervals over windows.

    Attributes:
        mean: [T] in nats, NaN where no window predicts anything.
        low: [T] lower ends.
        high: [T] upper ends.
        n: [T] windows that predict something there.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    n: np.ndarray


def loss_curve(losses: Float[np.ndarray, "N T"]) -> Curve:
    """Return the mean over windows of what `position_losses` found."""
    there = np.isfinite(losses)
    rows = [(np.nan, np.nan, np.nan, 0)] * losses.shape[1]
    for t in np.flatnonzero(there.any(0)):
        at = ratio(np.where(there[:, t], losses[:, t], 0), there[:, t])
        rows[t] = (at.mean, at.low, at.high, at.n)
    return Curve(*map(np.array, zip(*rows, strict=True)))


def in_context_score(losses: Float[np.ndarray, "N T"], early: int, late: int) -> Estimate:
    """Return the loss after `late` tokens less that after `early` ones, in nats, paired on the same windows: below 0,
    the model makes use of what stands between.

    Args:
        losses: what `position_losses` found.
        early: how many tokens have been read, 50 of 512 in the paper.
        late: the same, 500 in the paper.

    Raises:
        UsageError: they are not 1 <= early < late <= T, or no window predicts at both.
    """
    length = losses.shape[1]
    if not 1 <= early < late <= length:
        raise UsageError(f"early = {early}, late = {late}: give 1 or more, then more than that, at most {length}")
    before, after = losses[:, early - 1], losses[:, late - 1]
    both = np.isfinite(before) & np.isfinite(after)
    if not both.any():
        raise UsageError(f"no window predicts after {early} tokens and after {late}: choose a smaller late")
    return paired(after[both], before[both], np.ones(int(both.sum())))


def in_context(recipe: InContext, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Measure the loss at each position of a split's windows, and keep that of each window.

    Raises:
        UsageError: what `in_context_score` refuses.
    """
    examples = samples(recipe.of, TextData.open(inputs[recipe.of.text]), recipe.split)
    early, late = recipe.early or max(1, round(0.1 * examples.context)), recipe.late or examples.context
    windows = chosen_windows(examples, recipe.tokens)
    losses = position_losses(
        load(inputs[recipe.of])[0],
        examples,
        windows,
        precision=getattr(trained_of(recipe.of), "precision", "fp32"),
        progress=lambda done, total: run.progress(done, total, unit="windows"),
    )
    score = in_context_score(losses, early, late)
    run.save("losses.safetensors", {"losses": losses})
    run.save("curve.safetensors", loss_curve(losses)._asdict())
    return {
        "score": score.to_json(),
        "early": {"tokens": early, "loss": _at(losses, early).to_json()},
        "late": {"tokens": late, "loss": _at(losses, late).to_json()},
        "windows": len(windows),
        "of": len(examples),
    }


def _at(losses: Float[np.ndarray, "N T"], tokens: int) -> Estimate:
    """Return the mean loss after so many tokens."""
    column = losses[:, tokens - 1]
    return ratio(np.nan_to_num(column), np.isfinite(column))
