"""What a decoder says to many requests: the log-likelihood of continuations, with what they share read once.

Requests come in groups that begin alike, as the answers to one question do. Of a batch of groups, what all of them
share (the examples of a few-shot prompt) is read once, then what each group shares (its question), then what is each
request's own; keys and values of what was read are kept in between.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from etude.core.errors import DivergedError, UsageError
from etude.evals.whole_documents import check_causal
from etude.evals.window_reading import scores_of
from etude.models.architectures.decoder import Decoder
from etude.models.cache import Cache
from etude.models.transformer import Transformer
from etude.nn.attention.full import Full
from etude.text.tokenizers.live import Tokenizer

AT_ONCE = 4096
"""Tokens that are read at once."""

KEPT_BYTES = 256 << 20
"""Memory for the keys and values of a batch."""

SCORED_BYTES = 64 << 20
"""Memory for the scores of every token at several positions."""

WORTH = 4
"""Tokens that a group has to share, for each request but one, to be read in two steps."""


class Ask(NamedTuple):
    """A request: how likely are some tokens after others?

    Attributes:
        tokens: all of them, at least two.
        start: the first that is asked about, from 1.
    """

    tokens: tuple[int, ...]
    start: int


class Said(NamedTuple):
    """An answer.

    Attributes:
        log_probability: of the tokens that were asked about, in nats.
        greedy: whether each of them was the likeliest one.
        tokens: how many they are.
    """

    log_probability: float
    greedy: bool
    tokens: int


Group = Sequence[Ask]


def ask_for(tokenizer: Tokenizer, context: str, answer: str, opened: bool = False) -> Ask:
    """Return the request for an answer after a context.

    Both are encoded as one text, since a token may span where they meet; the tokens behind as many as the context has
    alone are the answer's. After an empty context, and where it is `opened`, the token that separates documents comes
    first. A tokenizer's own `first` token always does.

    Args:
        tokenizer: the model's.
        context: what is read.
        answer: what follows, with the space before it.
        opened: whether the text begins as a document does.

    Raises:
        UsageError: the answer has no token.
    """
    whole, before = tokenizer.encode(context + answer), len(tokenizer.encode(context)) if context else 0
    if not whole:
        raise UsageError("a text without a token cannot be asked about")
    opening = tokenizer.specials.get("first")
    if opening is None and (opened or not before or len(whole) < 2):
        opening = tokenizer.end
    lead = () if opening is None else (opening,)
    start = min(max(1, len(lead) + before), len(lead) + len(whole) - 1)
    return Ask((*lead, *whole), start)


def rolled(tokens: Sequence[int], context: int, opening: int) -> list[Ask]:
    """Return requests that ask about each token of a text once: all of the first window, which the opening token
    begins, and of each later one as many as the one before it left, with a window's whole length before them.

    Args:
        tokens: the text.
        context: tokens that a model reads.
        opening: stands before the first.
    """
    if not tokens:
        return []
    text, asks = (opening, *tokens), list[Ask]()
    for first in range(1, len(text), context):
        last = min(first + context, len(text))
        start = max(0, last - context - 1)
        asks.append(Ask(text[start:last], first - start))
    return asks


@dataclass(frozen=True)
class Batch:
    """Groups that are read side by side.

    Attributes:
        groups: their numbers.
        common: tokens that all of them begin with, and that are read once.
        shared: of each group, tokens that its requests begin with, the common ones among them.
    """

    groups: tuple[int, ...]
    common: int
    shared: tuple[int, ...]


class Asker:
    """Answers requests with a model.

    What it answers depends on neither the order of requests nor which others there are, but for the rounding of sums.

    Args:
        model: a decoder, in evaluation mode.
        at_once: tokens that are read at once, about; more is faster up to a point, and takes memory.

    Raises:
        UsageError: the model is no decoder.
    """

    def __init__(self, model: Transformer, at_once: int = AT_ONCE) -> None:
        check_causal(model.spec.name, "likelihoods are")
        self.model, self.at_once = model, at_once
        # Padding between a beginning and what follows would count as distance where attention looks back so far only.
        self._keeps = isinstance(model.spec, Decoder) and isinstance(model.spec.attention, Full)
        spec = model.spec
        self._row_bytes = 8 * max(1, spec.layers) * (spec.kv_heads or spec.heads) * spec.head_width

    def batches(self, groups: Sequence[Group]) -> list[Batch]:
        """Return which groups are read together: those that share as much, the longest first. The requests alone
        decide it."""
        shared = [self._shared(group) for group in groups]
        longest = [max(len(ask.tokens) - 1 for ask in group) for group in groups]
        for group, length in zip(groups, longest, strict=True):
            self.model.spec.fits(length)
            if any(not 1 <= ask.start < len(ask.tokens) for ask in group):
                raise UsageError("a request asks about tokens behind its first and up to its last")
        order = sorted(range(len(groups)), key=lambda n: (-shared[n], -longest[n], [ask.tokens for ask in groups[n]]))
        found, part = list[Batch](), list[int]()
        for number in order:
            if part and not self._fits([*part, number], groups, shared, longest):
                found.append(self._batch(part, groups, shared))
                part = []
            part.append(number)
        return [*found, self._batch(part, groups, shared)] if part else found

    @torch.inference_mode()
    def answer(self, groups: Sequence[Group], batch: Batch) -> list[list[Said]]:
        """Return what is said to the requests of a batch's groups, group after group.

        Raises:
            DivergedError: a log-likelihood is not finite.
        """
        asked = [groups[number] for number in batch.groups]
        rows = [(ask, shared) for group, shared in zip(asked, batch.shared, strict=True) for ask in group]
        cache, pads = self._begin(asked, batch)
        hidden = self._tails(rows, cache, pads)
        said = self._said(rows, hidden)
        sizes = itertools.accumulate((len(group) for group in asked), initial=0)
        return [said[start:stop] for start, stop in itertools.pairwise(sizes)]

    def _begin(self, asked: Sequence[Group], batch: Batch) -> tuple[Cache | None, Tensor | None]:
        """Read what groups share, and return what is kept of it, a row for each request, and [N S] where it holds
        padding; nothing is kept where nothing is shared."""
        if not any(batch.shared):
            return None, None
        cache, pads = self.model.cache(), None
        if batch.common:
            self.model.hidden(torch.tensor([asked[0][0].tokens[: batch.common]]), past=cache)
            cache.select(torch.zeros(len(asked), dtype=torch.long))
        longest = max(batch.shared)
        if longest > batch.common:
            own = [group[0].tokens[batch.common : shared] for group, shared in zip(asked, batch.shared, strict=True)]
            padded = torch.tensor([(0,) * (longest - batch.common - len(part)) + part for part in own])
            short = longest - torch.tensor(batch.shared)
            places = torch.arange(batch.common, longest)[None] - short[:, None]
            given = {}
            if short.any():
                present = torch.ones(len(asked), longest, dtype=torch.bool)
                present[:, batch.common :] = places >= batch.common
                given = {"present": present, "positions": places.clamp(min=0)}
                pads = ~present
            self.model.hidden(padded, past=cache, **given)
        counts = torch.tensor([len(group) for group in asked])
        cache.select(torch.repeat_interleave(counts))
        return cache, None if pads is None else pads.repeat_interleave(counts, dim=0)

    def _tails(self, rows: Sequence[tuple[Ask, int]], cache: Cache | None, pads: Tensor | None) -> Tensor:
        """Read what is each request's own, padded on the right, where nobody that counts sees it; [N T D]."""
        tails = [ask.tokens[shared:-1] for ask, shared in rows]
        longest = max(map(len, tails))
        tokens = torch.tensor([tail + (0,) * (longest - len(tail)) for tail in tails])
        if cache is None:
            return self.model.hidden(tokens)
        given = {}
        if pads is not None:
            begins = torch.tensor([shared for _, shared in rows])
            places = begins[:, None] + torch.arange(longest)
            ones = torch.ones(len(rows), longest, dtype=torch.bool)
            given = {"present": torch.cat((~pads, ones), dim=1), "positions": places.clamp(max=cache.context - 1)}
        return self.model.hidden(tokens, past=cache, **given)

    def _said(self, rows: Sequence[tuple[Ask, int]], hidden: Tensor) -> list[Said]:
        """Return what is said to requests, from what the unembedding reads of their tails."""
        spans = [(ask.start - 1 - shared, len(ask.tokens) - 1 - shared) for ask, shared in rows]
        counts = [stop - start for start, stop in spans]
        at = torch.cat([row * hidden.shape[1] + torch.arange(*span) for row, span in enumerate(spans)])
        read, targets = hidden.flatten(0, 1)[at], torch.tensor([t for ask, _ in rows for t in ask.tokens[ask.start :]])
        logs, greedy = torch.empty(len(at), dtype=torch.float64), torch.empty(len(at), dtype=torch.bool)
        step = max(1, SCORED_BYTES // (4 * self.model.vocabulary))
        for start in range(0, len(at), step):
            part = slice(start, start + step)
            scores = scores_of(self.model, read[part])
            own = scores.gather(1, targets[part, None])[:, 0]
            logs[part] = (own - scores.logsumexp(dim=1)).double()
            greedy[part] = scores.argmax(dim=1) == targets[part]
        sums = [float(part.sum()) for part in logs.split(counts)]
        if not torch.tensor(sums).isfinite().all():
            raise DivergedError("a log-likelihood is not finite: the model has diverged")
        likeliest = (bool(part.all()) for part in greedy.split(counts))
        return [Said(*each) for each in zip(sums, likeliest, counts, strict=True)]

    def _shared(self, group: Group) -> int:
        """Return how many tokens the requests of a group begin with and are read once: none of those that are asked
        about, nor the one before them, which the first of them is told from."""
        if len(group) < 2 or not self._keeps:
            return 0
        least = min(ask.start for ask in group) - 1
        alike = _alike([ask.tokens[:least] for ask in group])
        return alike if alike * (len(group) - 1) >= WORTH else 0

    def _batch(self, numbers: Sequence[int], groups: Sequence[Group], shared: Sequence[int]) -> Batch:
        begins = [groups[n][0].tokens[: groups[n][0].start - 1] for n in numbers]
        if not self._keeps or len(numbers) < 2:
            return Batch(tuple(numbers), 0, tuple(shared[n] for n in numbers))
        singles = all(len(groups[n]) == 1 for n in numbers)
        common = _alike(begins if singles else [groups[n][0].tokens[: shared[n]] for n in numbers])
        if common < WORTH:
            common = 0
        return Batch(tuple(numbers), common, tuple(max(common, shared[n]) for n in numbers))

    def _fits(
        self, numbers: Sequence[int], groups: Sequence[Group], shared: Sequence[int], longest: Sequence[int]
    ) -> bool:
        """Return whether groups can be read together: what is read and kept of them, padding among it, is not too much,
        and the longest beginning and the longest tail have room in a context."""
        begin = max(shared[n] for n in numbers)
        tail = max(longest[n] - shared[n] for n in numbers)
        requests = sum(len(groups[n]) for n in numbers)
        room = begin + tail <= self.model.spec.context
        read = begin * len(numbers) <= self.at_once and tail * requests <= self.at_once
        return room and read and (begin + tail) * requests * self._row_bytes <= KEPT_BYTES


def _alike(texts: Sequence[tuple[int, ...]]) -> int:
    """Return how many tokens texts begin with together: the least and the greatest differ first."""
    least, greatest = min(texts), max(texts)
    pairs: Iterator[bool] = (a == b for a, b in zip(least, greatest, strict=False))
    return next((n for n, same in enumerate(pairs) if not same), min(len(least), len(greatest)))
