"""The work of a library: fit its embedder, embed every chunk, and write down what came of it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from etude.core.errors import EtudeError
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.retrieval.building import build, embedded, gathered, planned, told_when_full, written
from etude.retrieval.database import Database
from etude.retrieval.embedders.base import Given, LiveEmbedder, State
from etude.retrieval.libraries import FITTED
from etude.retrieval.manifest import MANIFEST, Manifest, Stored
from etude.retrieval.over_ray import Part, over_ray, reachable
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
    chunks = _chunks(recipe, text)
    started = time.perf_counter()
    state = _fitted(recipe, chunks, inputs, run)
    embedder = _live(recipe, text, inputs, state)
    plan = planned(chunks, embedder, recipe.embedder, hash_of(text.tokenizer))
    before = 0
    if recipe.extends is not None:
        extended = inputs[recipe.extends]
        Database.open(extended.path, chunk=plan.chunk, tokenizer=plan.tokenizer, fitted=plan.fitted)
        before = extended.result["all_chunks"]
    fitted = time.perf_counter()
    progress = partial(run.progress, unit="chunks")
    if recipe.through == "here":
        made = build(run.path, chunks, embedder, plan, progress)
    else:
        made = gathered(run.path, plan, partial(_elsewhere, recipe, inputs, run, plan), progress)
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


def _chunks(recipe: Library, text: TextData) -> Chunks:
    return Chunks(text.store("train"), recipe.chunk, text.tokenizer.end)


def _live(recipe: Library, text: TextData, inputs: Mapping[Recipe, Run], state: State) -> LiveEmbedder:
    return recipe.embedder.live(state, Given(recipe.chunk, text.tokenizer, inputs))


def _elsewhere(
    recipe: Library, inputs: Mapping[Recipe, Run], run: Draft, plan: Manifest, numbers: Sequence[int]
) -> Iterator[tuple[int, Stored]]:
    """Make shards on a Ray cluster."""
    arguments = (recipe, reachable(inputs), run.path.absolute(), plan)
    for made in over_ray(run.scratch, Shards, arguments, [{"number": number} for number in numbers]):
        yield made["number"], Stored(made["bytes"], made["sha256"])


class Shards:
    """What makes shards on a machine of a cluster.

    Args:
        recipe: the library.
        inputs: the runs that it is made from.
        folder: where its draft stands, absolute.
        plan: its manifest, as it is where the work was started.

    Raises:
        EtudeError: this machine has another folder, or would make other keys.
    """

    def __init__(self, recipe: Library, inputs: Mapping[Recipe, Run], folder: Path, plan: Manifest) -> None:
        from safetensors.numpy import load_file

        self._folder, self._plan, here = folder, plan, socket.gethostname()
        if not (folder / MANIFEST).exists():
            raise EtudeError(
                f"{here} has no {str(folder)!r}: name a folder that all machines of the cluster share with --runs"
            )
        text = TextData.open(inputs[recipe.data])
        self._chunks = _chunks(recipe, text)
        self._embedder = _live(recipe, text, inputs, load_file(folder / FITTED))
        if planned(self._chunks, self._embedder, recipe.embedder, hash_of(text.tokenizer), plan.shard) != plan:
            raise EtudeError(
                f"{here} would make other keys than where this was started: install the same Etude on every machine of"
                " the cluster"
            )

    def __call__(self, part: Part) -> Part:
        """Make the shard of a number."""
        number = part["number"]
        with told_when_full(self._folder):
            keys = embedded(self._plan.rows(number), self._chunks, self._embedder)
            stored = written(self._folder, number, keys)
        return {"number": number, "bytes": stored.bytes, "sha256": stored.sha256}


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
