"""What an evaluation text shares with a training text: the longest run of consecutive tokens inside each chunk that
stands anywhere in the training text, and what a model does on chunks by how much they share.

Borgeaud et al. 2021, section 2.6, take a chunk's longest run in common with its nearest neighbours in the training set,
over the chunk's length. Here every position of the training text is looked at, which can only find more, and finds a
copy wherever its chunks begin.

The evaluation text is held in memory, 32 bytes for each of its tokens; the training text is read in blocks, once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, UInt32, UInt64

from etude.core.errors import UsageError
from etude.text.chunks import Chunks
from etude.text.store import TokenStore

ROOM = 1 << 24
"""Tokens that are compared at once, in blocks of so many over the length of a chunk."""

OVER = np.uint32(2**32 - 1)
"""Stands behind the end of an evaluation chunk. Behind the end of a training document stands 0, and every token is
raised by one, so that no run reaches over either end."""

_FACTOR, _SPREAD = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)  # any odd numbers


class Runs(NamedTuple):
    """The longest run of each chunk that the training text has too; 0 tokens, and -1, where there is none.

    Attributes:
        length: [C] tokens.
        start: [C] where it starts in the chunk, counted from 0.
        document: [C] the first document of the training text that has it.
        offset: [C] where it starts there; the separator that opens a document is at 0.
    """

    length: Int[np.ndarray, " C"]
    start: Int[np.ndarray, " C"]
    document: Int[np.ndarray, " C"]
    offset: Int[np.ndarray, " C"]


class LongestRuns:
    """Finds the longest run of each chunk, block by block of the training text.

    A run lies within one chunk and within one training document, both read as `Chunks` reads them: the separator that
    opens a document is its first token. Of runs of the greatest length the one counts that comes first in the training
    text, and of several from one place there the first in the chunk.

    What n-grams pass the hash are put in order, and each position of a chunk is compared token by token with the two
    beside which it belongs, since none shares more with it; so no hash can make a run of what is none, and a frequent
    n-gram costs no more than a rare one.

    Args:
        chunks: of the evaluation text.
        training: of the text that it may have leaked into.
        least: tokens of the shortest run that counts.

    Attributes:
        done: positions of the training text that were looked at.
        length: [C] of the longest run so far.
        at: [C] where it starts in the evaluation text, or -1.
        place: [C] where it starts in the training text, or -1.

    Raises:
        UsageError: `least` is no length of a run in a chunk.
    """

    def __init__(self, chunks: Chunks, training: Chunks, least: int = 8) -> None:
        if not 1 <= least <= chunks.size:
            raise UsageError(f"least = {least} tokens of a chunk of {chunks.size}: give 1 to {chunks.size}")
        self.chunks, self.training, self.least = chunks, training, least
        self.total, self.done = training.store.count, 0
        self.block = max(1, ROOM // chunks.size)
        self.length = np.zeros(len(chunks), np.int64)
        self.at, self.place = np.full_like(self.length, -1), np.full_like(self.length, -1)
        self._ends = np.minimum(chunks.starts + chunks.size, chunks.stops)
        fits = np.maximum(self._ends - chunks.starts - least + 1, 0)
        self._chunk = np.repeat(np.arange(len(chunks)), fits)
        self._from = np.arange(len(self._chunk)) - np.repeat(np.cumsum(fits) - fits - chunks.starts, fits)
        self._bits = min(28, max(10, len(self._from).bit_length() + 4))
        self._slots = self._slots_of(chunks.store, 0, chunks.store.count)[self._from]
        self._known = np.zeros(1 << self._bits, dtype=bool)
        self._known[self._slots] = True
        self._bounds = np.asarray(training.store.documents).astype(np.int64)

    def run(self, each: Callable[[], None] = lambda: None) -> Runs:
        """Read what is left of the training text, and return the runs. After each block `each` is called."""
        while self.done < self.total:
            self.step()
            each()
        return self.found

    @property
    def found(self) -> Runs:
        """What was found so far."""
        there = self.length > 0
        document = np.searchsorted(self._bounds, self.place, side="right") - 1
        offset = self.place - self._bounds[np.maximum(document, 0)]
        start = self.at - self.chunks.starts
        return Runs(self.length.copy(), *(np.where(there, each, -1) for each in (start, document, offset)))

    def state(self) -> dict[str, np.ndarray]:
        """Return what a search goes on from."""
        return {"done": np.array(self.done), "length": self.length, "at": self.at, "place": self.place}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from what `state` returned, of a search for the same."""
        self.done = int(state["done"])
        self.length, self.at, self.place = (np.array(state[name]) for name in ("length", "at", "place"))

    def step(self) -> None:
        """Look at one block of the training text."""
        low, high = self.done, min(self.done + self.block, self.total)
        slots = self._slots_of(self.training.store, low, high)
        passed = np.flatnonzero(self._known[slots])
        stops = self._bounds[np.searchsorted(self._bounds, low + passed, side="right")]
        whole = stops - (low + passed) >= self.least
        passed, stops = passed[whole], stops[whole]
        if len(passed):
            self._compare(low + passed, stops, self._wanted(slots[passed]))
        self.done = high

    def _wanted(self, slots: Int[np.ndarray, " N"]) -> Int[np.ndarray, " Q"]:
        """Return the positions of chunks, by number, whose n-gram may be among these and from which a longer run than
        the chunk's longest so far fits."""
        here = np.zeros(1 << self._bits, dtype=bool)
        here[slots] = True
        longer = self._ends[self._chunk] - self._from > self.length[self._chunk]
        return np.flatnonzero(here[self._slots] & longer)

    def _compare(
        self, places: Int[np.ndarray, " N"], stops: Int[np.ndarray, " N"], wanted: Int[np.ndarray, " Q"]
    ) -> None:
        """Take over the runs between places of the training text and positions of chunks that are longer than what
        their chunks have."""
        rows = _rows(self.training, places, stops, np.uint32(0))
        order = np.argsort(_keys(rows), kind="stable")
        rows, places = rows[order], places[order]
        parts = [wanted[n : n + self.block] for n in range(0, len(wanted), self.block)]
        shared = np.concatenate([_most_shared(rows, self._rows(part)) for part in parts] or [wanted])
        longest = np.zeros_like(self.length)
        np.maximum.at(longest, self._chunk[wanted], shared)
        is_best = (shared == longest[self._chunk[wanted]]) & (shared >= self.least)
        is_best &= shared > self.length[self._chunk[wanted]]
        best, shared = wanted[is_best], shared[is_best]
        if len(best):
            first = _first_with(rows, places, self._rows(best), shared)
            self._take(best, shared, first)

    def _take(self, best: Int[np.ndarray, " N"], shared: Int[np.ndarray, " N"], first: Int[np.ndarray, " N"]) -> None:
        order = np.lexsort((best, first, self._chunk[best]))
        chunk, chosen = np.unique(self._chunk[best[order]], return_index=True)
        chosen = order[chosen]
        self.length[chunk], self.place[chunk], self.at[chunk] = shared[chosen], first[chosen], self._from[best[chosen]]

    def _rows(self, positions: Int[np.ndarray, " N"]) -> UInt32[np.ndarray, "N M"]:
        return _rows(self.chunks, self._from[positions], self._ends[self._chunk[positions]], OVER)

    def _slots_of(self, store: TokenStore, low: int, high: int) -> Int[np.ndarray, " N"]:
        """Return the places in the table of bits of the n-grams that start at positions from `low` to below `high`. The
        table may let through what is not wanted, and stops nothing that is."""
        grams = _grams(_stream(store, self.chunks.end, low, high + self.least - 1), high - low)
        return (grams * _SPREAD >> np.uint64(64 - self._bits)).astype(np.int64)


def longest_runs(chunks: Chunks, training: Chunks, least: int = 8) -> Runs:
    """Return the longest run of each chunk that stands anywhere in a training text: see `LongestRuns`."""
    return LongestRuns(chunks, training, least).run()


def _stream(store: TokenStore, end: int, low: int, high: int) -> UInt64[np.ndarray, " N"]:
    """Return the tokens at some positions of a text that begins with a separator; behind its end are more of these."""
    tokens = store.tokens[max(low - 1, 0) : max(high - 1, 0)].astype(np.uint64)
    before = int(low == 0)
    return np.pad(tokens, (before, high - low - before - len(tokens)), constant_values=end)


def _grams(tokens: UInt64[np.ndarray, " M"], n: int) -> UInt64[np.ndarray, " N"]:
    """Return a hash of the tokens from each of the first `n` positions on, as many as there are behind the last."""
    found = np.zeros(n, np.uint64)
    for shift in range(len(tokens) - n + 1):
        found = found * _FACTOR + tokens[shift : shift + n]
    return found


def _rows(
    text: Chunks, starts: Int[np.ndarray, " N"], stops: Int[np.ndarray, " N"], behind: np.uint32
) -> UInt32[np.ndarray, "N M"]:
    """Return as many tokens as a chunk has from each start on, raised by one, and `behind` from its stop on."""
    at = starts[:, None] + np.arange(text.size)
    there = at < stops[:, None]
    tokens = text.store.tokens[np.where(there & (at > 0), at - 1, 0)].astype(np.uint32)
    return np.where(there, np.where(at > 0, tokens, np.uint32(text.end)) + np.uint32(1), behind)


def _keys(rows: UInt32[np.ndarray, "N M"]) -> np.ndarray:
    """Return rows as strings of bytes [N], which are in the order of their tokens."""
    return np.ascontiguousarray(rows.astype(">u4")).view(f"S{4 * rows.shape[1]}")[:, 0]


def _most_shared(rows: UInt32[np.ndarray, "N M"], asked: UInt32[np.ndarray, "Q M"]) -> Int[np.ndarray, " Q"]:
    """Return how many tokens each row that is asked for shares, from its first on, with the one of `rows`, which are in
    order, that shares most with it: one of the two beside which it belongs."""
    right = np.searchsorted(_keys(rows), _keys(asked))
    beside = (np.maximum(right - 1, 0), np.minimum(right, len(rows) - 1))
    return np.maximum(*(_shared(rows[each], asked) for each in beside))


def _shared(a: UInt32[np.ndarray, "N M"], b: UInt32[np.ndarray, "N M"]) -> Int[np.ndarray, " N"]:
    """Return how many tokens two rows share from the first on."""
    differ: Bool[np.ndarray, "N M"] = a != b
    return np.where(differ.any(1), differ.argmax(1), a.shape[1])


def _first_with(
    rows: UInt32[np.ndarray, "N M"],
    places: Int[np.ndarray, " N"],
    asked: UInt32[np.ndarray, "Q M"],
    shared: Int[np.ndarray, " Q"],
) -> Int[np.ndarray, " Q"]:
    """Return the first place of those whose rows, which are in order, begin with so many tokens of what is asked."""
    kept = np.arange(rows.shape[1]) < shared[:, None]
    keys = _keys(rows)
    low = np.searchsorted(keys, _keys(np.where(kept, asked, np.uint32(0))), side="left")
    high = np.searchsorted(keys, _keys(np.where(kept, asked, OVER)), side="right")
    return _least_between(places, low, high)


def _least_between(
    values: Int[np.ndarray, " N"], low: Int[np.ndarray, " Q"], high: Int[np.ndarray, " Q"]
) -> Int[np.ndarray, " Q"]:
    """Return the least value in each range, none of which is empty, through the least of every 1, 2, 4, ... values."""
    power = np.frexp(high - low)[1] - 1  # of two, the greatest that is no longer than the range
    found, least = np.zeros_like(low), values
    for level in range(int(power.max()) + 1):
        here = power == level
        found[here] = np.minimum(least[low[here]], least[high[here] - (1 << level)])
        least = np.minimum(least[: -(1 << level)], least[1 << level :])
    return found
