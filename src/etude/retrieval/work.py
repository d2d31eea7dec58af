"""The work of a library: fit its embedder, embed every chunk, and write down what came of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.retrieval.building import build, planned
from etude.retrieval.database import Database
from etude.retrieval.embedders.base import Given, State
from etude.retrieval.libraries import FITTED
from etude.retrieval.recipes import Library
from etude.retrieval.same_tokens import hash_of
from etude.text.chunks import Chunks
from etude.text.data import TextData


def library(recipe: Library, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Make the keys of the training split's chunks: `keys-00000.npy` and so on, `manifest.json`, and what the embedder
    was fitted to.

    Raises:
        UsageError: the library that is extended was made with another tokenizer or embedder.
    """
    text = TextData.open(inputs[recipe.data])
    chunks = Chunks(text.store("train"), recipe.chunk, text.tokenizer.end)
    started = time.perf_counter()
    state = _fitted(recipe, chunks, inputs, run)
    embedder = recipe.embedder.live(state, Given(recipe.chunk, text.tokenizer, inputs))
    plan = planned(chunks, embedder, recipe.embedder, hash_of(text.tokenizer))
    before = 0
    if recipe.extends is not None:
        extended = inputs[recipe.extends]
        Database.open(extended.path, chunk=plan.chunk, tokenizer=plan.tokenizer, fitted=plan.fitted)
        before = extended.result["all_chunks"]
    fitted = time.perf_counter()
    made = build(run.path, chunks, embedder, plan, lambda done, total: run.progress(done, total, unit="chunks"))
    seconds = time.perf_counter() - fitted
    return {
        "chunks": made.chunks,
        "all_chunks": before + made.chunks,
        "documents": len(chunks.first) - 1,
        "shorter": float(np.mean(chunks.stops - chunks.starts < chunks.size)),
        "chunk": made.chunk,
        "embedder": recipe.embedder.name,
        "dimension": made.dimension,
        "shards": len(made.shards),
        "bytes": made.bytes,
        "identity": made.identity,
        "timing": {"fit_seconds": fitted - started, "embed_seconds": seconds},
    }


def _fitted(recipe: Library, chunks: Chunks, inputs: Mapping[Recipe, Run], run: Draft) -> State:
    """Return what the embedder is fitted to, kept in the run: that of the library that is extended, or its own."""
    if (run.path / FITTED).exists():  # the work goes on after a kill; fitted with other threads, it might differ
        from safetensors.numpy import load_file

        return load_file(run.path / FITTED)
    if recipe.extends is not None:
        state: State = inputs[recipe.extends].tensors(FITTED)
    else:
        state = recipe.embedder.fit(chunks, run.say)
    run.save(FITTED, dict(state))
    return state
