"""The work of kNN-LM: a model and its datastore side by side, weighed against each other on the validation split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor

from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.evals.by_document import DOCUMENTS, compared, document_bytes, summed
from etude.evals.loss import Live
from etude.evals.sliding import Sliding
from etude.evals.sliding_work import LOSSES, causal, precision_of
from etude.evals.window_reading import Place, Said, counting, losses_of, read_windows, scores_of
from etude.models.transformer import Transformer
from etude.nn.precision import autocast
from etude.retrieval.knn_datastore import Memory, compact, windows_of
from etude.retrieval.knn_lm import best_share, mixed, neighbour_chances
from etude.retrieval.recipes import KnnLm
from etude.text.data import TextData


def losses_beside(model: Transformer, precision: str, memory: Memory, k: int, temperatures: tuple[float, ...]) -> Said:
    """Return what gives, of each prediction that counts, the model's loss in nats and the target's chance by its k
    neighbours at each temperature."""

    def said(batch: Live) -> dict[str, Tensor]:
        with autocast(batch.inputs.device, precision):
            hidden, targets = counting(model, batch)
            losses = losses_of(scores_of(model, hidden), targets)
        near = memory.nearest(hidden, k)
        return {"losses": losses, "chances": neighbour_chances(near.distances, near.tokens, targets, temperatures)}

    return said


class Read(NamedTuple):
    """What was read of a split.

    Attributes:
        losses: [T] of the model, in nats.
        chances: [T N] of the targets by their neighbours, at each temperature.
    """

    losses: Float[np.ndarray, " T"]
    chances: Float[np.ndarray, "T N"]


class _Reading:
    """Reads splits with a model and its datastore, each into a file of the draft's scratch."""

    def __init__(self, recipe: KnnLm, inputs: Mapping[Recipe, Run], run: Draft) -> None:
        self.recipe, self.run = recipe, run
        self.model, self.memory = causal(inputs[recipe.of]), Memory(inputs[recipe.datastore])

    def __call__(self, name: str, windows: Sliding, temperatures: tuple[float, ...], most: int = 0) -> Read:
        """Read windows, in the order of the store's tokens: so many that at most so many predictions are made, spread
        evenly; 0 is all."""
        chosen, rows, total = compact(windows, most or windows.store.count)
        layout = {"losses": (torch.float32, (total,)), "chances": (torch.float32, (total, len(temperatures)))}
        path = self.run.scratch / f"{name}.safetensors"
        read_windows(
            windows,
            chosen,
            losses_beside(self.model, precision_of(self.recipe.of), self.memory, self.recipe.k, temperatures),
            Place(path, layout, rows, self.run.scratch / f"{name}.json"),
            progress=lambda done, total: self.run.progress(done, total, unit="tokens", note=name),
        )
        return _read(path)


def _read(path: Path) -> Read:
    with safe_open(path, "pt") as file:
        return Read(*(file.get_tensor(name).numpy() for name in Read._fields))


def knn_lm(recipe: KnnLm, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Choose share and temperature on the validation split, and score the split that was asked for with them, beside
    the model alone.

    Raises:
        UsageError: the model predicts no next token, the stride does not fit, or the datastore holds fewer than k
            positions.
    """
    data, read = TextData.open(inputs[recipe.of.text]), _Reading(recipe, inputs, run)
    seen = read("choosing", windows_of(recipe.of, data, "valid", recipe.stride), recipe.temperatures, recipe.tokens)
    tried = [tried_at(seen, number, each) for number, each in enumerate(recipe.temperatures)]
    best = min(tried, key=lambda row: row["loss"])
    store, windows = data.store(recipe.split), windows_of(recipe.of, data, recipe.split, recipe.stride)
    found = read("scoring", windows, (best["temperature"],))
    together = mixed(found.losses, found.chances[:, 0], best["share"])
    run.save(LOSSES, {"losses": together.astype(np.float32), "model": found.losses, "chances": found.chances[:, 0]})
    sizes = document_bytes(store, data.tokenizer)
    scores, alone = summed(together, store, sizes), summed(found.losses, store, sizes)
    run.save(DOCUMENTS, {**scores.arrays(), "model_nats": alone.nats})
    return {
        **scores.summary(),
        "model": {"bits_per_byte": alone.bits_per_byte.to_json(), "loss": alone.loss.to_json()},
        "difference": compared(scores, alone).to_json(),
        "share": best["share"],
        "temperature": best["temperature"],
        "k": recipe.k,
        "positions": len(read.memory.keys),
        "context": windows.context,
        "stride": windows.stride,
        "chosen_on": {"tokens": len(seen.losses), "model_loss": float(seen.losses.mean(dtype=np.float64))},
        "tried": tried,
        "notices": notices(recipe, best),
    }


def tried_at(seen: Read, number: int, temperature: float) -> dict[str, float]:
    """Return the best share at one of the temperatures, and the mean loss in nats that it comes to."""
    share = best_share(seen.losses, seen.chances[:, number])
    loss = float(mixed(seen.losses, seen.chances[:, number], share).mean())
    return {"temperature": temperature, "share": share, "loss": loss}


def notices(recipe: KnnLm, best: Mapping[str, float]) -> list[str]:
    """Return what a reader of the result should know of how it came about."""
    told = []
    if recipe.split == "valid":
        told.append("Share and temperature were chosen on the very text that is scored: the gain is too good.")
    if not best["share"]:
        told.append("On the validation split neighbours gave nothing at any temperature: the share is 0.")
    elif len(recipe.temperatures) > 1 and best["temperature"] in (min(recipe.temperatures), max(recipe.temperatures)):
        told.append(
            f"Temperature {best['temperature']:g} is the last of those tried on its side: a better one may lie beyond."
        )
    return told
