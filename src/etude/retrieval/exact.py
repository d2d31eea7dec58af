"""Exact search: the nearest keys of each query, with ties in a stated order and without the keys that it may not find.

Distances are squared Euclidean everywhere on this floor, in float32, and as `distances` computes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from etude.core.errors import UsageError

BLOCK = 16384
"""Keys that are compared at once."""

AT_ONCE = 2048
"""Queries that are compared at once: with a block of keys, 128 MB of products."""

SPARE = 16
"""Keys fetched beyond k: what is fetched by a matrix product is put in order by its true distance."""

PRODUCTS = 1 << 22
"""Most fetched keys at once, queries times keys of each."""

HELD = 1 << 19
"""Most numbers of fetched keys that are held at once: few enough for a processor's cache."""

ROUNDING = 2.0**-24
"""Of float32, relative."""


class Found(NamedTuple):
    """The nearest keys of each query, nearest first; those of one distance by their numbers.

    Attributes:
        distances: [Q k] squared Euclidean; infinite where there are fewer.
        numbers: [Q k] which keys; -1 where there are fewer.
    """

    distances: Float[np.ndarray, "Q k"]
    numbers: Int[np.ndarray, "Q k"]


class Keys:
    """The keys of a library, numbered on from one array to the next, and which of them a query may find: none of its
    own document, and none of a banned one.

    Args:
        parts: float32 [n d], which may be mapped into memory.
        document: [C] the document of each key, in order; none gives each key a document of its own.
        banned: [documents] which documents nobody finds; none bans none.

    Raises:
        UsageError: there is no key, or the documents are not those of the keys or out of order.
    """

    def __init__(
        self,
        parts: Sequence[Float[np.ndarray, "_ d"]],
        document: Int[np.ndarray, " C"] | None = None,
        banned: Bool[np.ndarray, " documents"] | None = None,
    ) -> None:
        self.parts = [part for part in parts if len(part)]
        self.first = np.concatenate([[0], np.cumsum([len(part) for part in self.parts])]).astype(np.int64)
        if not len(self):
            raise UsageError("the library has no chunk: there is nothing to search")
        self.document = np.arange(len(self)) if document is None else document
        if len(self.document) != len(self) or (np.diff(self.document) < 0).any():
            raise UsageError(f"{len(self.document)} documents in order are wanted, one for each of {len(self)} keys")
        documents = int(self.document[-1]) + 1
        self.barred = np.zeros(len(self), bool) if banned is None else banned[self.document]
        self._left = np.bincount(self.document[~self.barred], minlength=documents)

    def __len__(self) -> int:
        return int(self.first[-1])

    @property
    def dimension(self) -> int:
        """Numbers in a key."""
        return self.parts[0].shape[1]

    def blocks(self, size: int = BLOCK) -> Iterator[tuple[int, Float[Tensor, "n d"]]]:
        """Yield the keys in order, at most so many at once, each time with the number of the first."""
        for before, part in zip(self.first.tolist(), self.parts, strict=False):
            for start in range(0, len(part), size):
                yield before + start, torch.from_numpy(np.array(part[start : start + size], np.float32))

    def take(self, numbers: Int[np.ndarray, "*N"]) -> Float[np.ndarray, "*N d"]:
        """Return keys by their numbers."""
        found = np.empty((*numbers.shape, self.dimension), np.float32)
        of = np.searchsorted(self.first, numbers, side="right") - 1
        for at in np.unique(of):
            found[of == at] = self.parts[at][numbers[of == at] - self.first[at]]
        return found

    def available(self, own: Int[np.ndarray, " Q"]) -> Int[np.ndarray, " Q"]:
        """Return how many keys each query may find.

        Args:
            own: the document of each; -1 where it is of none here.
        """
        return self._left.sum() - np.where(own >= 0, self._left[np.maximum(own, 0)], 0)


def distances(queries: Float[np.ndarray, "Q d"], keys: Float[np.ndarray, "Q k d"]) -> Float[np.ndarray, "Q k"]:
    """Return squared Euclidean distances, summed from the differences: equal keys have equal distances."""
    return np.square(keys - queries[:, None]).sum(-1)


def exact(keys: Keys, queries: Float[np.ndarray, "Q d"], k: int, own: Int[np.ndarray, " Q"] | None = None) -> Found:
    """Return the k nearest keys of each query: the first of all keys, sorted by `distances` and then by number.

    Args:
        keys: what is searched.
        queries: float32.
        k: how many.
        own: the document of each query, whose keys it does not find; -1 where it is of none. None asks for all keys.

    Raises:
        UsageError: k is below 1, or the queries have another dimension.
    """
    own = checked(keys, queries, k, own)
    return joined([_exact(keys, queries[at], k, own[at], k + SPARE) for at in pieces(len(queries), AT_ONCE)], k)


def checked(
    keys: Keys, queries: Float[np.ndarray, "Q d"], k: int, own: Int[np.ndarray, " Q"] | None
) -> Int[np.ndarray, " Q"]:
    """Return the documents of queries, after a look at what is asked.

    Raises:
        UsageError: see `exact`.
    """
    if k < 1:
        raise UsageError(f"k = {k} neighbours are none: give 1 or more")
    if queries.shape[1] != keys.dimension:
        raise UsageError(
            f"queries of {queries.shape[1]} numbers in a library whose keys have {keys.dimension}: embed them with the"
            " library's own embedder"
        )
    return np.full(len(queries), -1) if own is None else own


def pieces(count: int, size: int) -> Iterator[slice]:
    """Yield slices of at most so many."""
    return (slice(start, start + size) for start in range(0, count, size))


def joined(found: Sequence[Found], k: int) -> Found:
    """Return what was found piece by piece as one."""
    nothing = Found(np.empty((0, k), np.float32), np.empty((0, k), np.int64))
    return Found(*(np.concatenate(each) for each in zip(nothing, *found, strict=True)))


def in_order(keys: Keys, queries: Float[np.ndarray, "Q d"], numbers: Int[np.ndarray, "Q n"], k: int) -> Found:
    """Return the k nearest of some keys of each query, by their true distances and then by number; -1 is no key."""
    away = np.empty(numbers.shape, np.float32)
    for at in pieces(len(queries), max(1, HELD // max(1, numbers.shape[1] * keys.dimension))):
        away[at] = distances(queries[at], keys.take(np.maximum(numbers[at], 0)))
    away[numbers < 0] = np.inf
    order = np.lexsort((numbers, away))[:, :k]
    return Found(np.take_along_axis(away, order, 1), np.take_along_axis(numbers, order, 1))


def _exact(keys: Keys, queries: Float[np.ndarray, "Q d"], k: int, own: Int[np.ndarray, " Q"], fetch: int) -> Found:
    """Fetch keys by matrix products, put them in order by their distances, and fetch twice as many for the queries of
    which rounding could hide one: those that many keys are equally far from."""
    nearly, numbers, greatest = _fetched(keys, torch.from_numpy(queries), own, fetch)
    found = in_order(keys, queries, numbers, min(k, numbers.shape[1]))
    if found.numbers.shape[1] < k:
        found = padded(found, k)
    longest = np.linalg.norm(queries, axis=1) + greatest
    doubt = 4 * (keys.dimension + 4) * ROUNDING * longest**2  # bounds what rounding does to a product and to a sum
    unsure = np.flatnonzero((found.distances[:, -1] >= nearly - doubt) & np.isfinite(nearly) & (fetch < len(keys)))
    for at in pieces(len(unsure), max(1, PRODUCTS // (2 * fetch))):
        rows = unsure[at]
        again = _exact(keys, queries[rows], k, own[rows], min(2 * fetch, len(keys)))
        found.distances[rows], found.numbers[rows] = again
    return found


def padded(found: Found, k: int) -> Found:
    """Return what was found with places that hold nothing, up to k."""
    more = ((0, 0), (0, k - found.numbers.shape[1]))
    return Found(np.pad(found.distances, more, constant_values=np.inf), np.pad(found.numbers, more, constant_values=-1))


def completed(found: Found, keys: Keys, queries: Float[np.ndarray, "Q d"], own: Int[np.ndarray, " Q"]) -> Found:
    """Return what was found, with the queries searched exactly that came out with fewer than there are."""
    k = found.numbers.shape[1]
    short = np.flatnonzero((found.numbers >= 0).sum(1) < np.minimum(k, keys.available(own)))
    if len(short):
        found.distances[short], found.numbers[short] = exact(keys, queries[short], k, own[short])
    return found


def _fetched(
    keys: Keys, queries: Float[Tensor, "Q d"], own: Int[np.ndarray, " Q"], fetch: int
) -> tuple[Float[np.ndarray, " Q"], Int[np.ndarray, "Q n"], float]:
    """Return the distance behind which nothing was fetched, infinite where all was; the numbers of what was; and the
    length of the longest key. Distances are those of a matrix product."""
    best, at = torch.empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.int64)
    longest = 0.0
    for start, block in keys.blocks():
        norms = block.square().sum(1)
        longest = max(longest, float(norms.max()))
        here = slice(start, start + len(block))
        norms[torch.from_numpy(keys.barred[here])] = torch.inf
        away = torch.addmm(norms, queries, block.T, alpha=-2)
        _hide(away, keys.document[here], own)
        values, columns = away.topk(min(fetch, len(block)), largest=False, sorted=False)
        best, at = torch.cat((best, values), 1), torch.cat((at, columns + start), 1)
        best, kept = best.topk(min(fetch, best.shape[1]), largest=False, sorted=False)
        at = at.gather(1, kept)
    at[best.isinf()] = -1
    furthest = best.amax(1) + queries.square().sum(1)
    return furthest.numpy(), at.numpy(), longest**0.5


def _hide(away: Float[Tensor, "Q n"], document: Int[np.ndarray, " n"], own: Int[np.ndarray, " Q"]) -> None:
    """Put the keys of each query's own document at an infinite distance; they stand side by side."""
    low = np.searchsorted(document, own, side="left")
    counts = np.searchsorted(document, own, side="right") - low
    rows = np.repeat(np.arange(len(own)), counts)
    columns = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts - low, counts)
    away[torch.from_numpy(rows), torch.from_numpy(columns)] = torch.inf
