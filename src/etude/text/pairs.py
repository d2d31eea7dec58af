"""Pairs of texts, one read and one written: translation, or any task whose corpus has sides."""

from __future__ import annotations

import numpy as np

from etude.core.errors import UsageError, unknown
from etude.text.batches import IGNORE, Batch, check_context, check_numbers
from etude.text.framing import gathered
from etude.text.store import TokenStore


class Pairs:
    """One sample a pair. The inputs are the separator and the target's tokens, the targets its tokens and the
    separator, which ends it; `given` has the `source` with its separator, and `source_present`.

    All is padded on the right. In the target padding changes nothing: no place to the left sees it, and its own targets
    are IGNORE. Of the source `source_present` tells it apart, from lengths and not from ids, so no token is taken for
    padding. A pair with a side longer than the context is left out: cut, it would teach to translate half a sentence.

    Args:
        store: its documents come in groups, one a side.
        context: length of both.
        end: the separator.
        source: the side that is read; empty is the first.
        target: the side that is written; empty is the first of the others.

    Attributes:
        left_out: pairs that are too long.

    Raises:
        UsageError: the store has no sides, or none of the name, or no pair fits the context.
    """

    def __init__(self, store: TokenStore, context: int, end: int, source: str = "", target: str = "") -> None:
        check_context(context)
        if len(store.sides) < 2 or store.openings:
            raise UsageError("pairs of texts are whole documents of a corpus with sides, such as multi30k: choose one")
        self.store, self.context, self.end = store, context, end
        self.vocabulary = store.vocabulary
        self._tokens, self._documents = np.asarray(store.tokens), np.asarray(store.documents)
        read, written = chosen_sides(store.sides, source, target)
        group = len(store.sides)
        self._source, self._target = store.sides.index(read), store.sides.index(written)
        lengths = np.diff(self._documents).astype(np.int64).reshape(-1, group)
        longest = np.maximum(lengths[:, self._source], lengths[:, self._target])
        kept = np.flatnonzero(longest <= context)
        self.left_out = len(longest) - len(kept)
        if not len(kept):
            least = int(longest.min()) if len(longest) else 0
            raise UsageError(
                f"no pair fits a context of {context}: the longer side of the shortest has {least} tokens, with its"
                " separator; give a longer context"
            )
        self._kept = kept * group

    def __len__(self) -> int:
        return len(self._kept)

    def batch(self, indices: np.ndarray, draw: int = 0) -> Batch:
        groups = self._kept[check_numbers(indices, len(self))]
        source, source_present = self._side(groups + self._source)
        found, there = self._side(groups + self._target)
        targets = np.where(there, found, IGNORE)
        inputs = np.roll(np.where(there, found, self.end), 1, axis=1)
        inputs[:, 0] = self.end
        return Batch(inputs, targets, {"source": source, "source_present": source_present})

    def _side(self, documents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        starts = self._documents[documents].astype(np.int64)
        lengths = self._documents[documents + 1].astype(np.int64) - starts
        found, there = gathered(self._tokens, starts, lengths, self.context)
        return np.where(there, found, self.end), there


def chosen_sides(sides: tuple[str, ...], source: str, target: str) -> tuple[str, str]:
    """Return the names of the side that is read and of the side that is written.

    Raises:
        UsageError: there is no such side, or both are the same.
    """
    for side in filter(None, (source, target)):
        if side not in sides:
            raise unknown("side", side, sides)
    read = source or next(side for side in sides if side != target)
    written = target or next(side for side in sides if side != read)
    if read == written:
        raise UsageError(f"both sides are {read!r}: read one of {', '.join(sides)} and write another")
    return read, written
