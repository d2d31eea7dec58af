"""Documents of a library that are near-duplicates of documents that a model is tested on: the sets of their token
13-grams have a Jaccard similarity of at least 0.8 (Borgeaud et al. 2021, section 2.1).

Candidates come from MinHash (Broder 1997) and locality-sensitive hashing, and each is confirmed by its exact Jaccard
similarity. So none is called a duplicate that is none, and one is missed with a probability of `missed`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Int

from etude.core.errors import UsageError
from etude.core.seeds import stream
from etude.text.store import TokenStore

GRAM = 13
"""Tokens in a gram."""

HASHES = 128
"""Of which a signature has the least of each."""

MISSED = 1e-6
"""Greatest probability of missing a pair that is just alike enough."""

LEAST_ALIKE = 0.11
"""Below it, not even single hashes find a pair surely enough."""

AT_ONCE = 1 << 14
"""Grams that are hashed at once: 128 hashes of each take 16 MB."""


@dataclass(frozen=True)
class Duplicate:
    """A document of the library that is nearly one of the others.

    Attributes:
        document: its number in the library.
        of: number of the first of the others that it is nearly equal to.
        alike: their Jaccard similarity.
    """

    document: int
    of: int
    alike: float


def documents(store: TokenStore, end: int) -> Iterator[Int[np.ndarray, " n"]]:
    """Yield the tokens of each document, without the separator that ends it."""
    bounds = np.asarray(store.documents).astype(np.int64).tolist()
    for start, stop in pairwise(bounds):
        tokens = store.tokens[start:stop].astype(np.int64)
        yield tokens[:-1] if len(tokens) and tokens[-1] == end else tokens


def near_duplicates(
    library: Iterable[Int[np.ndarray, " _"]],
    others: Iterable[Int[np.ndarray, " _"]],
    alike: float = 0.8,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Duplicate]:
    """Return the documents of a library that are nearly one of some others. Documents of fewer than 13 tokens are
    compared whole. Of the library one document is held at a time; of the others, all.

    Args:
        library: tokens of each document.
        others: tokens of each of the others.
        alike: least Jaccard similarity of the sets of their grams.
        progress: called with how many documents of the library are done.

    Raises:
        UsageError: datasketch is not installed, or `alike` is out of range.
    """
    check_alike(alike)
    sketch, held = _datasketch(), [np.asarray(tokens) for tokens in others]
    bands, rows = banding(alike)
    near = sketch.MinHashLSH(num_perm=HASHES, params=(bands, rows))
    for number, tokens in enumerate(held):
        near.insert(number, _signature(sketch, tokens))
    found = []
    for document, tokens in enumerate(library):
        for of in sorted(near.query(_signature(sketch, tokens))):
            if (share := jaccard(tokens, held[of])) >= alike:
                found.append(Duplicate(document, of, share))
                break
        progress(document + 1)
    return found


def check_alike(alike: float) -> None:
    """Raise UsageError where pairs of such a similarity are not found surely enough, or there are none."""
    if not LEAST_ALIKE <= alike <= 1:
        raise UsageError(f"near-duplicates = {alike:g}: give a Jaccard similarity of {LEAST_ALIKE} to 1, or 0 for none")


def banding(alike: float) -> tuple[int, int]:
    """Return in how many bands of how many hashes signatures are compared: the longest bands, which give the fewest
    candidates, that miss a pair of this similarity with a probability of at most `MISSED`."""
    fitting = [rows for rows in range(1, HASHES + 1) if missed(alike, HASHES // rows, rows) <= MISSED]
    rows = max(fitting)
    return HASHES // rows, rows


def missed(alike: float, bands: int, rows: int) -> float:
    """Return the probability that a pair of this Jaccard similarity agrees in no band (Leskovec, Rajaraman and Ullman,
    "Mining of Massive Datasets", section 3.4.2)."""
    return (1 - alike**rows) ** bands


def jaccard(one: Int[np.ndarray, " n"], other: Int[np.ndarray, " m"]) -> float:
    """Return the Jaccard similarity of the sets of grams of two documents."""
    a, b = _distinct(one), _distinct(other)
    both = len(np.intersect1d(a, b, assume_unique=True))
    return both / (len(a) + len(b) - both)


def grams(tokens: Int[np.ndarray, " n"]) -> Int[np.ndarray, "N 13"]:
    """Return every run of 13 tokens; of a document that has fewer, all of it, with -1 behind."""
    if len(tokens) < GRAM:
        tokens = np.pad(tokens, (0, GRAM - len(tokens)), constant_values=-1)
    return np.lib.stride_tricks.sliding_window_view(tokens.astype(np.int64), GRAM)


def _distinct(tokens: Int[np.ndarray, " n"]) -> np.ndarray:
    rows = np.ascontiguousarray(grams(tokens))
    return np.unique(rows.view([("", np.int64)] * GRAM).ravel())


def hashes(rows: Int[np.ndarray, "N 13"]) -> Int[np.ndarray, " N"]:
    """Return a hash of 32 bits of each gram: the upper half of a polynomial in its tokens, modulo 2^64."""
    factor, found = np.uint64(stream(0, "grams") | 1), np.zeros(len(rows), np.uint64)
    for column in rows.T:
        found = (found + (column + 2).astype(np.uint64)) * factor
    return found >> np.uint64(32)


def _signature(sketch: Any, tokens: Int[np.ndarray, " n"]) -> Any:
    """Return the MinHash of a document's grams."""
    rows = grams(tokens)
    signature = sketch.MinHash(num_perm=HASHES, hashfunc=int)
    for start in range(0, len(rows), AT_ONCE):
        signature.update_batch(np.unique(hashes(rows[start : start + AT_ONCE])).tolist())
    return signature


def _datasketch() -> Any:
    """Return datasketch.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import datasketch
    except ImportError:
        raise UsageError(
            "near-duplicates need datasketch: pip install 'etude[retrieval]', or --near-duplicates 0 to keep them"
        ) from None
    return datasketch
