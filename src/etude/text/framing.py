"""Texts of their own as samples: one document each, framed by special tokens and padded on the right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from etude.core.errors import UsageError
from etude.text.batches import IGNORE, Batch, check_numbers
from etude.text.store import TokenStore
from etude.text.tokenizers.live import Tokenizer


@dataclass(frozen=True)
class Frame:
    """The ids that stand around texts. Where a tokenizer has no token for a role, the separator of documents stands in
    for it: a document then begins and ends as it does among others.

    Attributes:
        first: opens a text.
        separator: closes a text, and parts two.
        pad: fills up. It is never seen, whatever its id: what is padding is said beside it.
    """

    first: int
    separator: int
    pad: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Frame:
        """Return a tokenizer's frame."""
        return cls(*(tokenizer.specials.get(role, tokenizer.end) for role in ("first", "separator", "pad")))


def text_lengths(store: TokenStore) -> np.ndarray:
    """Return how many tokens each document has, its separator not counted: int64 [documents]."""
    return np.diff(np.asarray(store.documents)).astype(np.int64) - (0 if store.openings else 1)


def gathered(tokens: np.ndarray, starts: np.ndarray, lengths: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return stretches of a store side by side: tokens int64 [B, width], and which of them are there.

    Args:
        tokens: of the store.
        starts: [B] where each stretch starts.
        lengths: [B] how long it is, at most `width`.
        width: of the result.
    """
    places = np.arange(width)
    there = places < lengths[:, None]
    found = tokens[np.where(there, starts[:, None] + places, 0)]
    return found.astype(np.int64), there


class Texts:
    """One sample a document: first token, text, separator, and padding on the right, which `present` tells apart. A
    longer text is cut on the right. Targets are the labels, or IGNORE where documents have none.

    Args:
        store: the tokens.
        context: length of a sample.
        frame: the ids around a text.

    Attributes:
        cut: texts that lost their end.

    Raises:
        UsageError: there is no room for a token, or a label is none of the classes.
    """

    def __init__(self, store: TokenStore, context: int, frame: Frame) -> None:
        if context < 3:
            raise UsageError(
                f"a context of {context} has no room for a text between two special tokens: give 3 or more"
            )
        _check_labels(store)
        self.store, self.context, self.frame = store, context, frame
        self.vocabulary = store.vocabulary
        self.cut = int(np.count_nonzero(text_lengths(store) > context - 2))
        self._tokens = np.asarray(store.tokens)

    def __len__(self) -> int:
        return self.store.header.documents

    def batch(self, indices: np.ndarray, draw: int = 0) -> Batch:
        numbers = check_numbers(indices, len(self))
        documents = self.store.documents
        starts = documents[numbers].astype(np.int64)
        ends = documents[numbers + 1].astype(np.int64) - (0 if self.store.openings else 1)
        lengths = np.minimum(ends - starts, self.context - 2)
        inputs = np.full((len(numbers), self.context), self.frame.pad, dtype=np.int64)
        found, there = gathered(self._tokens, starts, lengths, self.context - 2)
        inputs[:, 0] = self.frame.first
        inputs[:, 1:-1] = np.where(there, found, self.frame.pad)
        inputs[np.arange(len(numbers)), lengths + 1] = self.frame.separator
        labels = self.store.labels
        targets = np.full(len(numbers), IGNORE) if labels is None else labels[numbers].astype(np.int64)
        return Batch(inputs, targets, {"present": np.arange(self.context) < lengths[:, None] + 2})


def _check_labels(store: TokenStore) -> None:
    if store.labels is None:
        return
    wrong = np.flatnonzero((store.labels < 0) | (store.labels >= len(store.classes)))
    if wrong.size:
        raise UsageError(
            f"document {wrong[0]} of {store.path.name} has the label {store.labels[wrong[0]]}, and the classes are 0 to"
            f" {len(store.classes) - 1} ({', '.join(store.classes)}): make the tokens again from corrected labels"
        )
