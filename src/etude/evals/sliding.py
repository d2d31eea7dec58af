"""A sliding window within documents: every token is predicted once, and but at a document's beginning with a good part
of a context before it. Borgeaud et al. 2021 evaluate so, with a context of 2048 tokens and a stride of 1024."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from etude.core.errors import UsageError
from etude.text.batches import IGNORE, Batch, check_context, check_numbers
from etude.text.neighbours import Neighboured
from etude.text.store import TokenStore

LONGEST_STRIDE = 1024
"""Where no stride is asked for: that of the paper."""


class Slides(NamedTuple):
    """Where windows stand, document after document.

    Attributes:
        document: [W] the document of each.
        start: [W] where it starts there, the separator that opens the document being 0.
        length: [W] how many tokens it reads.
        fresh: [W] its first prediction that counts; those before it were made by the window before.
    """

    document: Int[np.ndarray, " W"]
    start: Int[np.ndarray, " W"]
    length: Int[np.ndarray, " W"]
    fresh: Int[np.ndarray, " W"]


def slides(lengths: Int[np.ndarray, " N"], context: int, stride: int) -> Slides:
    """Return windows that predict every token of every document once: the first of a document all that it reads, each
    other the tokens that the one before it did not, with `context - stride` tokens or more before each.

    Args:
        lengths: predictions in each document, its ending separator among them.
        context: longest window.
        stride: how far each window begins behind the one before it.

    Raises:
        UsageError: the stride is not from 1 to the context.
    """
    check_context(context)
    check_stride(stride, context)
    lengths = np.asarray(lengths, np.int64)
    counts = np.where(lengths > 0, 1 + -(-np.maximum(lengths - context, 0) // stride), 0)
    document = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(len(document)) - (np.cumsum(counts) - counts)[document]
    start = number * stride
    length = np.minimum(context, lengths[document] - start)
    return Slides(document, start, length, np.where(number > 0, context - stride, 0))


def check_stride(stride: int, context: int, chunk: int = 1) -> None:
    """Raise UsageError where windows of a context cannot slide by a stride, or would not begin with a chunk."""
    if not 1 <= stride <= context:
        raise UsageError(f"stride = {stride} is not from 1 to the context of {context}: half of it is usual")
    if stride % chunk:
        raise UsageError(
            f"stride = {stride} is no multiple of the library's chunks of {chunk} tokens, with which windows begin:"
            f" give {stride_for(context, chunk)}, or another multiple"
        )


def stride_for(context: int, chunk: int = 1) -> int:
    """Return the stride where none is asked for: half the context, at most 1024, in whole chunks."""
    return max(1, min(context // 2, LONGEST_STRIDE) // chunk) * chunk


class Sliding:
    """The windows of a store of whole documents, as samples. A document is read with the separator that opens it, and
    the one that ends it is predicted too.

    What is predicted but does not count has IGNORE for its target, and so have the places that are left over where
    samples of several lengths stand in one batch; these read the separator.

    Args:
        store: whole documents.
        context: longest window.
        end: the separator.
        stride: how far each window begins behind the one before it.
        near: what gives the neighbours of the store's chunks; none gives none.

    Attributes:
        slides: where the windows stand.
        rows: [W] the token of the store that each window's first counting prediction is of.
        counts: [W] how many of its predictions count.

    Raises:
        UsageError: the store holds openings, or the stride does not fit.
    """

    def __init__(self, store: TokenStore, context: int, end: int, stride: int, near: Neighboured | None = None) -> None:
        if store.openings:
            raise UsageError("windows slide over whole documents, and these are openings: set --data.openings 0")
        self.chunk = near.library.size if near is not None else 1
        check_stride(stride, context, self.chunk)
        self.store, self.context, self.end, self.stride, self.near = store, context, end, stride, near
        self.vocabulary = store.vocabulary
        bounds = np.asarray(store.documents).astype(np.int64)
        self.slides = slides(np.diff(bounds), context, stride)
        self._begins = bounds[self.slides.document] + self.slides.start
        self.rows = self._begins + self.slides.fresh
        self.counts = self.slides.length - self.slides.fresh

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def widths(self) -> Int[np.ndarray, " W"]:
        """How many places each window takes: its length, in whole chunks where there are neighbours."""
        return -(-self.slides.length // self.chunk) * self.chunk

    @property
    def beside(self) -> int:
        """How many tokens a model reads at each place of a window: one, and those of the neighbours."""
        return 1 if self.near is None else 1 + 2 * self.near.k

    def batch(self, indices: np.ndarray, draw: int = 0) -> Batch:
        numbers = check_numbers(indices, len(self))
        document, start, length, fresh = (part[numbers, None] for part in self.slides)
        place = np.arange(self.widths[numbers].max(initial=0))
        at, there = self._begins[numbers, None] + place, place < length
        tokens, opens = self.store.tokens, start + place == 0
        inputs = tokens[np.where(there & ~opens, at - 1, 0)].astype(np.int64)
        targets = tokens[np.where(there, at, 0)].astype(np.int64)
        given = {}
        if self.near is not None:
            given = self.near.beside(document[:, 0], start[:, 0] // self.chunk, len(place) // self.chunk)
        return Batch(
            np.where(there & ~opens, inputs, self.end), np.where(there & (place >= fresh), targets, IGNORE), given
        )
