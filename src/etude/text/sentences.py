"""Two segments a sample, the second of which follows the first in its document, or does not."""

from __future__ import annotations

import numpy as np

from etude.core.errors import UsageError
from etude.text.batches import IGNORE, Batch, check_numbers
from etude.text.chance import below, uniform
from etude.text.framing import Frame, text_lengths
from etude.text.store import TokenStore


class Segments:
    """[first] A [separator] B [separator], as in Devlin et al. 2019, section 3.1: in half of the draws B goes on where
    A ends, in the others it is from another document, drawn evenly.

    Documents are cut into stretches that fill the context; sample i is stretch i, which A begins. Where A ends is drawn
    anew each time. B is as long as what is left of the stretch, or as the stretch that is drawn from another document
    where that is shorter, whichever of the two it is taken from: neither its length nor the padding tells. A segment
    here is any run of tokens, as in the paper, not a sentence.

    `given` has `present`, `segments` (0 for A and what opens and parts, 1 for B and what closes it) and `follows`, the
    class of each pair: 0 where B follows, 1 where it does not. Targets are IGNORE: the tokens to be predicted are
    chosen by `etude.text.masking`.

    Raises:
        UsageError: there is no room for two segments, or no two documents to draw from.
    """

    def __init__(self, store: TokenStore, context: int, frame: Frame, seed: int = 0) -> None:
        self._room = context - 3
        if self._room < 2:
            raise UsageError(
                f"a context of {context} has no room for two segments and 3 special tokens: give 5 or more"
            )
        if store.openings:
            raise UsageError("pairs of segments are cut from whole documents: make the tokens with openings 0")
        self.store, self.context, self.frame, self.seed = store, context, frame, seed
        self.vocabulary = store.vocabulary
        self._tokens, self._starts = np.asarray(store.tokens), np.asarray(store.documents)
        self._lengths = text_lengths(store)
        counts = self._lengths // self._room + (self._lengths % self._room >= 2)
        if np.count_nonzero(counts) < 2:
            raise UsageError(
                "next-sentence pairs need two documents of two tokens or more, one for a segment that does not follow:"
                " give a corpus of more documents, or leave next_sentence out"
            )
        self._first = np.concatenate([[0], np.cumsum(counts)])  # of each document, its first stretch

    def __len__(self) -> int:
        return int(self._first[-1])

    def batch(self, indices: np.ndarray, draw: int = 0) -> Batch:
        numbers = check_numbers(indices, len(self))
        split, kind, elsewhere, place = uniform(self.seed, "segments", draw, numbers, 4).T
        document, start, length = self._stretch(numbers)
        a = 1 + below(length - 1, split)
        _, other_start, other_length = self._stretch(self._elsewhere(document, elsewhere))
        b = np.minimum(length - a, other_length - 1)
        follows = kind < 0.5
        b_start = np.where(follows, start + a, other_start + 1 + below(other_length - b, place))
        return self._framed(start, a, b_start, b, follows)

    def _stretch(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the document, first token and length of stretches."""
        document = np.searchsorted(self._first, numbers, side="right") - 1
        before = (numbers - self._first[document]) * self._room
        length = np.minimum(self._lengths[document] - before, self._room)
        return document, self._starts[document].astype(np.int64) + before, length

    def _elsewhere(self, document: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Return a stretch of another document for each: all of them are equally likely."""
        own = self._first[document + 1] - self._first[document]
        drawn = below(len(self) - own, numbers)
        return drawn + np.where(drawn >= self._first[document], own, 0)

    def _framed(
        self, a_start: np.ndarray, a: np.ndarray, b_start: np.ndarray, b: np.ndarray, follows: np.ndarray
    ) -> Batch:
        places, a, b = np.arange(self.context), a[:, None], b[:, None]
        in_a, in_b = (places >= 1) & (places <= a), (places >= a + 2) & (places < a + b + 2)
        at = np.where(in_a, a_start[:, None] + places - 1, np.where(in_b, b_start[:, None] + places - a - 2, 0))
        inputs = np.where(in_a | in_b, self._tokens[at].astype(np.int64), self.frame.pad)
        inputs[:, 0] = self.frame.first
        inputs = np.where((places == a + 1) | (places == a + b + 2), self.frame.separator, inputs)
        present = places < a + b + 3
        given = {
            "present": present,
            "segments": ((places >= a + 2) & present).astype(np.int64),
            "follows": np.where(follows, 0, 1),
        }
        return Batch(inputs, np.full(inputs.shape, IGNORE), given)
