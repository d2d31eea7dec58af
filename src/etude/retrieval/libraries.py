"""A library's run, opened: its keys, its chunks and the embedder as it was fitted."""

from __future__ import annotations

from collections.abc import Mapping

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.retrieval.database import Database
from etude.retrieval.embedders.base import Given, LiveEmbedder
from etude.retrieval.recipes import Library
from etude.retrieval.same_tokens import hash_of
from etude.text.chunks import Volumes
from etude.text.data import TextData
from etude.text.neighbours import volumes

FITTED = "embedder.safetensors"
"""What the embedder was fitted to, in every run of a library."""


def embedder_of(library: Library, done: Mapping[Recipe, Run]) -> LiveEmbedder:
    """Return the embedder that made a library's keys, to embed what is looked for in it.

    Args:
        library: the recipe.
        done: the runs at hand: those of `library.needs`.
    """
    tokenizer = TextData.open(done[library.data]).tokenizer
    state = done[library].tensors(FITTED)
    return library.embedder.live(state, Given(library.chunk, tokenizer, done))


def database_of(library: Library, done: Mapping[Recipe, Run]) -> Database:
    """Return a library's keys, those of the libraries that it extends first. The arguments are those of `embedder_of`.

    Raises:
        UsageError: the volumes do not go together.
        DamagedError: a file is not what was written.
    """
    tokenizer = hash_of(TextData.open(done[library.data]).tokenizer)
    folders = [done[volume].path for volume in library.lineage]
    return Database.open(folders, chunk=library.chunk, tokenizer=tokenizer)


def chunks_of(library: Library, done: Mapping[Recipe, Run]) -> Volumes:
    """Return a library's chunks, numbered as its keys are. The arguments are those of `embedder_of`."""
    return volumes(library.volumes, library.chunk, done)
