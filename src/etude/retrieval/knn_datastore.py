"""A datastore: what a model reads at positions of its training text, and the token that followed each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from torch import Tensor

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.evals.loss import Live
from etude.evals.sliding import Sliding, stride_for
from etude.evals.sliding_work import causal, precision_of
from etude.evals.window_reading import Place, Said, counting, read_windows
from etude.models.recipes import ModelRecipe
from etude.models.transformer import Transformer
from etude.nn.precision import autocast
from etude.retrieval.exact import SPARE, Keys, exact, joined
from etude.retrieval.recipes import Datastore
from etude.text.data import TextData

FETCHED = 1 << 24
"""Numbers that are fetched at once to put near positions in order: 64 MB."""

STORE = "datastore.safetensors"
"""`keys` [P D], what the unembedding reads at each position, and `values` [P], the token that followed, int32."""


def datastore(recipe: Datastore, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Keep what a model reads at positions spread over its training text, and what followed each.

    Raises:
        UsageError: the model predicts no next token, the stride does not fit, not even one window is wanted, or the
            vectors do not fit their type.
    """
    model, data = causal(inputs[recipe.of]), TextData.open(inputs[recipe.of.text])
    windows = windows_of(recipe.of, data, "train", recipe.stride)
    chosen, rows, positions = compact(windows, recipe.positions)
    dtype = torch.float16 if recipe.dtype == "fp16" else torch.float32
    width = model.unembedding()[0].shape[0]
    read_windows(
        windows,
        chosen,
        vectors_and_next(model, precision_of(recipe.of), dtype),
        Place(
            run.path / STORE,
            {"keys": (dtype, (positions, width)), "values": (torch.int32, (positions,))},
            rows,
            run.scratch / "read.json",
        ),
        progress=lambda done, total: run.progress(done, total, unit="positions"),
    )
    return {"positions": positions, "of": int(windows.counts.sum()), "width": width, "windows": len(chosen)}


def windows_of(of: ModelRecipe, data: TextData, split: str, stride: int) -> Sliding:
    """Return the windows of a split's documents that a model reads; a stride of 0 is half its context, at most 1024."""
    return Sliding(data.store(split), of.context, data.tokenizer.end, stride or stride_for(of.context))


def spread(counts: Int[np.ndarray, " W"], most: int) -> Int[np.ndarray, " C"]:
    """Return as many windows, evenly spread, as have at most so many predictions together.

    Raises:
        UsageError: not even one does.
    """
    wanted = len(counts) if counts.sum() <= most else min(len(counts), int(len(counts) * most / counts.sum()) + 1)
    for n in range(wanted, 0, -1):
        chosen = np.linspace(0, len(counts) - 1, n).round().astype(np.int64)
        if counts[chosen].sum() <= most:
            return chosen
    raise UsageError(f"{most} positions are fewer than the {counts[0]} of the first window: give more")


def compact(windows: Sliding, most: int) -> tuple[Int[np.ndarray, " C"], Int[np.ndarray, " C"], int]:
    """Return windows spread over a split, the row at which each one's predictions begin, and the number of rows."""
    chosen = spread(windows.counts, most)
    counts = windows.counts[chosen]
    return chosen, np.cumsum(counts) - counts, int(counts.sum())


def vectors_and_next(model: Transformer, precision: str, dtype: torch.dtype) -> Said:
    """Return what gives, of each prediction that counts, the vector that the unembedding reads and the token to come.

    Raises:
        UsageError: later, where a vector does not fit the type.
    """

    def said(batch: Live) -> dict[str, Tensor]:
        with autocast(batch.inputs.device, precision):
            keys, values = counting(model, batch)
        keys = keys.to(dtype)
        if not keys.isfinite().all():
            raise UsageError("a vector of the model is not finite, or too large for fp16: try --dtype fp32")
        return {"keys": keys, "values": values}

    return said


class Followed(NamedTuple):
    """The nearest positions of each query, nearest first.

    Attributes:
        distances: [Q K] squared Euclidean.
        tokens: [Q K] what followed there.
    """

    distances: Float[Tensor, "Q K"]
    tokens: Int[Tensor, "Q K"]


class Memory:
    """A datastore, its vectors mapped.

    Args:
        run: of the datastore.
    """

    def __init__(self, run: Run) -> None:
        with safe_open(run.file(STORE), "pt") as file:
            self.keys = Keys([file.get_tensor("keys").numpy()])
            self.values: Int[Tensor, " P"] = file.get_tensor("values")

    def nearest(self, queries: Float[Tensor, "Q D"], k: int) -> Followed:
        """Return the k nearest positions of each query, by exact search in float32.

        Raises:
            UsageError: fewer are remembered.
        """
        if k > len(self.keys):
            raise UsageError(f"k = {k} nearest of {len(self.keys)} positions that are remembered: choose a smaller k")
        size = max(1, FETCHED // ((k + SPARE) * self.keys.dimension))
        found = joined([exact(self.keys, some.numpy(), k) for some in queries.float().split(size)], k)
        return Followed(torch.from_numpy(found.distances), self.values[torch.from_numpy(found.numbers)])
