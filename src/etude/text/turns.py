"""Dialogues as samples: everything is read, and the model's own turns are the targets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from etude.core.errors import UsageError
from etude.text.batches import IGNORE, Batch, check_context, check_numbers
from etude.text.framing import gathered
from etude.text.store import TokenStore
from etude.text.tokenizers.live import Tokenizer


@dataclass(frozen=True)
class Marks:
    """How turns stand in a text: each begins on a line of its own with the mark of who speaks.

    Attributes:
        user: the mark of what is said to the model.
        model: the mark of what the model says.
    """

    user: str = "User:"
    model: str = "Assistant:"


def unmarked(text: str, marks: Marks, first: bool = False) -> str:
    """Return a text in which no line begins with a mark: one that did is indented by a space.

    Args:
        text: anything.
        marks: how turns are told apart.
        first: whether the first line is looked at too; it may have a mark where it follows one.
    """
    begins = "^" if first else r"(?<=\n)"
    return re.sub(f"{begins}(?={re.escape(marks.user)}|{re.escape(marks.model)})", " ", text, flags=re.MULTILINE)


def said(mark: str, text: str, marks: Marks) -> str:
    """Return the lines of one turn, in which no other turn begins. White space around what is said is left out."""
    return f"{mark} {unmarked(text.strip(), marks)}".rstrip()


@dataclass(frozen=True)
class Found:
    """Where turns are in the text of one dialogue, in bytes.

    Attributes:
        exchanges: where each begins: a user's turn after one of the model's, the dialogue's start among them.
        own: [turns, 2] what the model says: from after its mark to where the next turn begins, the line end before it
            included, so that the end of a turn is learned too.
    """

    exchanges: np.ndarray
    own: np.ndarray


def turns(text: bytes, marks: Marks) -> Found:
    """Return the turns of a dialogue. What stands before the first belongs to the first exchange."""
    either = rb"^(?:(%s)|(%s))" % (re.escape(marks.model.encode()), re.escape(marks.user.encode()))
    exchanges, own, answering = [0], list[tuple[int, int]](), False
    for found in re.finditer(either, text, re.MULTILINE):
        if own and own[-1][1] < 0:
            own[-1] = (own[-1][0], found.start())
        if found[1] is not None:
            own.append((found.end(), -1))
        elif answering:
            exchanges.append(found.start())
        answering = found[1] is not None
    if own and own[-1][1] < 0:
        own[-1] = (own[-1][0], len(text) + 1)  # the separator too: the model says that it has said all
    return Found(np.array(exchanges), np.array(own, dtype=np.int64).reshape(-1, 2))


class Turns:
    """Samples of dialogues: one document is one dialogue. The inputs are the separator and what is said, the targets
    the tokens of the model's own turns, and IGNORE elsewhere. Padding is on the right, as in `Openings`.

    A dialogue longer than the context is cut between exchanges, as few times as fit; each part begins with a user's
    turn. An exchange that is too long by itself loses its end, and parts in which the model says nothing are left out;
    both are counted.

    Opening reads every dialogue once (some 3 MB a second) and keeps one byte a token.

    Args:
        store: the tokens of whole documents.
        context: length of a sample.
        tokenizer: has made them; its tokens have to stand for bytes.
        marks: how turns are told apart.

    Attributes:
        left_out: parts in which the model says nothing.
        cut: exchanges that lost their end.

    Raises:
        UsageError: no turn of the model is found, or the tokens are not those of whole dialogues.
    """

    def __init__(self, store: TokenStore, context: int, tokenizer: Tokenizer, marks: Marks) -> None:
        check_context(context)
        if store.openings:
            raise UsageError("dialogues are whole documents: make the tokens with openings 0")
        if not tokenizer.lossless:
            raise UsageError("turns are found in the exact text, which this tokenizer does not keep: use bpe or byte")
        self.store, self.context, self.end = store, context, tokenizer.end
        self.vocabulary = store.vocabulary
        self.left_out = self.cut = 0
        self._tokens = np.asarray(store.tokens)
        self._own = np.zeros(store.count, dtype=bool)
        self._lengths_of = _byte_lengths(tokenizer)
        parts = np.array(list(self._parts(tokenizer, marks)), dtype=np.int64).reshape(-1, 2)
        self._starts, self._lengths = parts.T
        if not len(parts):
            raise UsageError(
                f"the model says nothing in {store.path.name}: no line begins with {marks.model!r}; set"
                " --objective.model-mark to how its turns begin"
            )

    def __len__(self) -> int:
        return len(self._starts)

    def batch(self, indices: np.ndarray, draw: int = 0) -> Batch:
        numbers = check_numbers(indices, len(self))
        starts, lengths = self._starts[numbers], self._lengths[numbers]
        found, there = gathered(self._tokens, starts, lengths, self.context)
        own, _ = gathered(self._own, starts, lengths, self.context)
        inputs = np.roll(np.where(there, found, self.end), 1, axis=1)
        inputs[:, 0] = self.end
        return Batch(inputs, np.where(there & (own > 0), found, IGNORE))

    def _parts(self, tokenizer: Tokenizer, marks: Marks) -> Iterator[tuple[int, int]]:
        """Yield the start and length of each sample, and note which tokens are the model's own."""
        for start, stop in zip(self.store.documents[:-1].tolist(), self.store.documents[1:].tolist(), strict=True):
            ids = self._tokens[start:stop]
            text = tokenizer.decode_bytes(ids[:-1].tolist())
            found = turns(text, marks)
            ends = np.cumsum(self._lengths_of[ids])
            before = ends[-1] - len(text)  # a space that the tokenizer puts before a text, and that is none of it
            places = np.maximum(ends - self._lengths_of[ids] - before, 0)  # each token's first byte
            for own_start, own_stop in found.own:
                self._own[start:stop] |= (places >= own_start) & (places < own_stop)
            begins = start + np.searchsorted(places, found.exchanges)
            for first, last in packed([*begins.tolist(), stop], self.context):
                self.cut += last - first > self.context
                if self._own[first : min(last, first + self.context)].any():
                    yield first, min(last - first, self.context)
                else:
                    self.left_out += 1


def packed(bounds: list[int], most: int) -> Iterator[tuple[int, int]]:
    """Yield stretches of consecutive pieces, each of as many pieces as are not longer than `most` together, and at
    least one.

    Args:
        bounds: where each piece begins, and where the last ends.
        most: length of a stretch.
    """
    first = bounds[0]
    for here, after in zip(bounds[1:], [*bounds[2:], None], strict=True):
        if after is None or after - first > most:
            yield first, here
            first = here


def _byte_lengths(tokenizer: Tokenizer) -> np.ndarray:
    """Return how many bytes each token stands for within a text: none for the separator."""
    first = tokenizer.encode("a")  # at the start of a text a tokenizer may leave a space out that it has put there
    alone, unwritten = len(tokenizer.decode_bytes(first)), {tokenizer.end, *tokenizer.specials.values()}
    return np.array(
        [
            0 if id in unwritten else len(tokenizer.decode_bytes([*first, id])) - alone
            for id in range(tokenizer.vocabulary)
        ]
    )
