"""Samples with their neighbours: windows within documents, and for each chunk of a window the nearest chunks of a
library, which `etude.retrieval` found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float, Int

from etude.core.errors import DamagedError, UsageError
from etude.text.batches import IGNORE, Batch, check_context, check_numbers
from etude.text.chunks import Chunks, Volumes
from etude.text.data import TextData
from etude.text.recipes import NeighboursRecipe, Tokens
from etude.text.store import TokenStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from etude.core.recipe import Recipe
    from etude.core.run import Run


Reads = Literal["both", "neighbour", "continuation"]
"""What of a neighbour a model is given: the chunk that was found, the one that follows it, or both."""


class NeighbourTable:
    """The neighbours of each chunk of a split, read through memory mapping.

    Attributes:
        numbers: [C, k] chunks of the library, nearest first; -1 where there are fewer.
        distances: [C, k] their distances.
    """

    def __init__(self, numbers: Int[np.ndarray, "C k"], distances: Float[np.ndarray, "C k"]) -> None:
        if numbers.shape != distances.shape or numbers.ndim != 2:
            raise DamagedError(f"neighbours of shape {numbers.shape} with distances of {distances.shape}")
        self.numbers, self.distances = numbers, distances

    @classmethod
    def open(cls, numbers: Path, distances: Path) -> NeighbourTable:
        """Open the two files of a split."""
        return cls(np.load(numbers, mmap_mode="r"), np.load(distances, mmap_mode="r"))

    @property
    def k(self) -> int:
        """How many neighbours are stored of each chunk."""
        return self.numbers.shape[1]


class DocumentWindows:
    """Windows within documents: each begins `context` tokens after the one before it, the first with the separator that
    opens its document, and the last is shorter. Every token is predicted once, the separator that ends a document too.

    A shorter window leaves places over on the right, whose inputs hold the separator and whose targets are IGNORE.

    Args:
        store: whole documents.
        context: length of a window.
        end: the separator.
    """

    def __init__(self, store: TokenStore, context: int, end: int) -> None:
        check_context(context)
        self.windows = Chunks(store, context, end)
        self.store, self.context, self.end = store, context, end
        self.vocabulary = store.vocabulary

    def __len__(self) -> int:
        return len(self.windows)

    def batch(self, indices: np.ndarray, draw: int = 0) -> Batch:
        numbers = check_numbers(indices, len(self))
        inputs, present = self.windows.read(numbers)
        at = self.windows.starts[numbers][:, None] + np.arange(self.context)
        following = self.store.tokens[np.where(present, at, 0)].astype(np.int64)
        return Batch(inputs, np.where(present, following, IGNORE))


class Neighboured(DocumentWindows):
    """Windows within documents with the neighbours of their chunks: `given` has `neighbours` [B, U, k, 2m], each with
    its continuation, for the U chunks of m tokens in a window, and `neighbours_present` of the same shape.

    Args:
        store: whole documents.
        context: length of a window, a multiple of the library's chunks.
        end: the separator.
        table: neighbours of the store's chunks.
        library: where their tokens are.
        k: how many of them are given.
        reads: what of them: `both` the neighbour and its continuation, or one of the two.

    Raises:
        UsageError: the context is no multiple, the table is of another text, or has fewer neighbours.
    """

    def __init__(
        self,
        store: TokenStore,
        context: int,
        end: int,
        table: NeighbourTable,
        library: Volumes,
        k: int,
        reads: Reads = "both",
    ) -> None:
        super().__init__(store, context, end)
        if context % library.size:
            raise UsageError(f"a context of {context} is no multiple of the library's chunks of {library.size}")
        check_k(k, table.k)
        self.chunks = Chunks(store, library.size, end)
        if len(table.numbers) != len(self.chunks):
            raise UsageError(
                f"neighbours of {len(table.numbers)} chunks are not of this text, which has {len(self.chunks)}"
            )
        self.table, self.library, self.k, self.reads = table, library, k, reads

    def batch(self, indices: np.ndarray, draw: int = 0) -> Batch:
        plain = super().batch(indices, draw)
        windows, numbers = self.windows, check_numbers(indices, len(self))
        document = windows.document[numbers]
        count = self.context // self.library.size
        given = self.beside(document, (numbers - windows.first[document]) * count, count)
        return Batch(plain.inputs, plain.targets, given)

    def beside(
        self, document: Int[np.ndarray, " B"], first: Int[np.ndarray, " B"], count: int
    ) -> dict[str, np.ndarray]:
        """Return the neighbours of consecutive chunks of documents, as a model is given them. Of chunks behind a
        document's end nothing is there.

        Args:
            document: which documents.
            first: the chunk within its document to begin with.
            count: how many of each.
        """
        chunks = (self.chunks.first[document] + first)[:, None] + np.arange(count)
        there = chunks < self.chunks.first[document + 1][:, None]
        found = self.table.numbers[np.where(there, chunks, 0), : self.k]
        tokens, present = self.library.read(np.where(there[..., None], found, -1), pieces=2)
        if self.reads != "both":
            size = self.library.size
            present[..., size:] &= self.reads == "continuation"
            present[..., :size] &= self.reads == "neighbour"
        return {"neighbours": tokens, "neighbours_present": present}


def check_k(k: int, stored: int) -> None:
    """Raise UsageError where more neighbours are asked for than are stored."""
    if not 1 <= k <= stored:
        raise UsageError(f"k = {k} neighbours of {stored} that are stored: choose 1 to {stored}, or store more")


def found(of: NeighboursRecipe, done: Mapping[Recipe, Run], split: str) -> tuple[NeighbourTable, Volumes]:
    """Return the neighbours of a split's chunks, and the library that they are in.

    Raises:
        UsageError: the split has none.
    """
    run = done[of]
    names = [f"{split}.{what}.npy" for what in ("neighbours", "distances")]
    if names[0] not in run.files:
        raise UsageError(f"{of.id} has no neighbours of the {split} split: make them with it among --splits")
    return NeighbourTable.open(*(run.file(name) for name in names)), volumes(of.volumes, of.chunk, done)


def volumes(texts: Iterable[Tokens], chunk: int, done: Mapping[Recipe, Run]) -> Volumes:
    """Return the chunks of a library, whose texts' training splits hold them."""
    opened = [TextData.open(done[tokens]) for tokens in texts]
    return Volumes([Chunks(text.store("train"), chunk, text.tokenizer.end) for text in opened])
