"""Chunks: the tokens of each document in pieces of one length, each known by a number and readable with what follows it
(Borgeaud et al. 2021, section 2.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from etude.core.errors import UsageError
from etude.text.store import TokenStore

Read = tuple[Int[np.ndarray, "*N M"], Bool[np.ndarray, "*N M"]]
"""Tokens, and which are there: a chunk at a document's end is shorter. What is not there reads as the separator."""


class Chunks:
    """The chunks of a store of whole documents.

    A document is read with the separator that opens it and without the one that ends it, so that what a model reads
    when it is given the document from its beginning falls into these very chunks.

    Args:
        store: whole documents.
        size: tokens in a chunk.
        end: the separator.

    Attributes:
        starts: [C] where each chunk starts: the token there is the store's one before, the separator before the first.
        document: [C] the document of each.
        first: [documents + 1] number of each document's first chunk, and behind them the number of chunks.

    Raises:
        UsageError: the store holds openings, or a chunk has no room for a token.
    """

    def __init__(self, store: TokenStore, size: int, end: int) -> None:
        if size < 1:
            raise UsageError(f"chunk = {size} is too small: give 1 or more tokens; 64 is usual")
        if store.openings:
            raise UsageError("chunks are of whole documents, and these are openings: make the tokens with openings 0")
        self.store, self.size, self.end = store, size, end
        self._bounds = np.asarray(store.documents).astype(np.int64)
        counts = -(-np.diff(self._bounds) // size)
        self.first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self.document = np.repeat(np.arange(len(counts)), counts)
        within = np.arange(len(self.document)) - self.first[self.document]
        self.starts = self._bounds[self.document] + within * size

    def __len__(self) -> int:
        return len(self.document)

    @property
    def stops(self) -> Int[np.ndarray, " C"]:
        """Where each chunk's document stops, counted as `starts` are."""
        return self._bounds[self.document + 1]

    def read(self, numbers: Int[np.ndarray, "*N"], pieces: int = 1) -> Read:
        """Return chunks by their numbers.

        Args:
            numbers: which; a negative one is no chunk, and nothing of it is there.
            pieces: 1 for the chunk alone, 2 for the chunk and its continuation.
        """
        numbers = np.asarray(numbers, dtype=np.int64)
        known = np.maximum(numbers, 0)
        if numbers.size and numbers.max() >= len(self):
            raise IndexError(f"chunk {numbers.max()} asked of {len(self)}")
        if not len(self):
            shape = (*numbers.shape, pieces * self.size)
            return np.full(shape, self.end), np.zeros(shape, dtype=bool)
        at = self.starts[known][..., None] + np.arange(pieces * self.size)
        stops = self._bounds[self.document[known] + 1]
        present = (at < stops[..., None]) & (numbers >= 0)[..., None]
        tokens = self.store.tokens[np.where(present & (at > 0), at - 1, 0)].astype(np.int64)
        return np.where(present & (at > 0), tokens, self.end), present

    def at(self, document: int, position: int) -> int:
        """Return the number of the chunk that holds a position of a document, the separator before it being 0."""
        return int(self.first[document]) + position // self.size


class Volumes:
    """The chunks of several stores, numbered on from one to the next: those of a library that was extended.

    Args:
        parts: chunks of one size.
    """

    def __init__(self, parts: Sequence[Chunks]) -> None:
        sizes = {part.size for part in parts}
        if len(sizes) != 1:
            raise UsageError(f"a library has chunks of one size, not of {sorted(sizes)}")
        self.parts, (self.size,) = tuple(parts), sizes
        self.first = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
        documents = [len(part.first) - 1 for part in parts]
        before = np.concatenate([[0], np.cumsum(documents)])
        self.document = np.concatenate([p.document + b for p, b in zip(parts, before, strict=False)]).astype(np.int64)

    def __len__(self) -> int:
        return int(self.first[-1])

    def read(self, numbers: Int[np.ndarray, "*N"], pieces: int = 1) -> Read:
        """Return chunks by their numbers, as `Chunks.read` does."""
        numbers = np.asarray(numbers, dtype=np.int64)
        if len(self.parts) == 1:
            return self.parts[0].read(numbers, pieces)
        if numbers.size and numbers.max() >= len(self):
            raise IndexError(f"chunk {numbers.max()} asked of {len(self)}")
        shape = (*numbers.shape, pieces * self.size)
        tokens, present = np.full(shape, self.parts[0].end), np.zeros(shape, dtype=bool)
        for part, low, high in zip(self.parts, self.first, self.first[1:], strict=False):
            mine = (numbers >= low) & (numbers < high)
            tokens[mine], present[mine] = part.read(numbers[mine] - low, pieces)
        return tokens, present
