"""What a decoder says to many requests: the log-likelihood of continuations, with what they share read once.

Requests come in groups that begin alike, as the answers to one question do. Of a batch of groups, what all of them
share (the examples of a few-shot prompt) is read once, then what each group shares (its question), then what is each
request's own; keys and values of what was read are kept in between.
"""

from __future__ import annotations

import functools
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

WASTE = 1.25
"""How many times as many tokens may be read as there are, for padding: with more of it, fewer are read at once."""

LITTLE = 512
"""Tokens of padding that are cheaper than another batch."""

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
    whole, before = tokenizer.encode(context + answer), _length(tokenizer, context) if context else 0
    if not whole or (len(whole) == before and whole == tokenizer.encode(context)):
        raise UsageError(f"the answer {answer!r} has no token: this tokenizer has none for its characters")
    opening = tokenizer.specials.get("first")
    if opening is None and (opened or not before or len(whole) < 2):
        opening = tokenizer.end
    lead = () if opening is None else (opening,)
    start = min(max(1, len(lead) + before), len(lead) + len(whole) - 1)
    return Ask((*lead, *whole), start)


@functools.lru_cache(maxsize=4)
def _length(tokenizer: Tokenizer, text: str) -> int:
    """Return how many tokens a text has: several answers follow one question."""
    return len(tokenizer.encode(text))


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
        found, part, size = list[Batch](), list[int](), _Size()
        for number in order:
            lengths = [len(text) for text in _texts(groups[number])]
            begins = self._begins(groups[number], shared[number])
            wider = size.with_group(begins, shared[number], lengths)
            if part and not self._fits(wider):
                found.append(_batch(part, size.shares, shared))
                part, wider = [], _Size().with_group(begins, shared[number], lengths)
            part.append(number)
            size = wider
        return [*found, _batch(part, size.shares, shared)] if part else found

    @torch.inference_mode()
    def answer(self, groups: Sequence[Group], batch: Batch) -> list[list[Said]]:
        """Return what is said to the requests of a batch's groups, group after group.

        Raises:
            DivergedError: a log-likelihood is not finite.
        """
        asked = [groups[number] for number in batch.groups]
        texts = [_texts(group) for group in asked]
        cache, pads = self._begin(asked, batch, [len(each) for each in texts])
        rows = [(text, shared) for each, shared in zip(texts, batch.shared, strict=True) for text in each]
        hidden = self._tails(rows, cache, pads)
        starts = itertools.accumulate((len(each) for each in texts), initial=0)
        asks = [
            (ask, start + each[ask.tokens[:-1]], shared)
            for group, each, start, shared in zip(asked, texts, starts, batch.shared, strict=False)
            for ask in group
        ]
        said = self._said(asks, hidden)
        sizes = itertools.accumulate((len(group) for group in asked), initial=0)
        return [said[start:stop] for start, stop in itertools.pairwise(sizes)]

    def _begin(self, asked: Sequence[Group], batch: Batch, texts: Sequence[int]) -> tuple[Cache | None, Tensor | None]:
        """Read what groups share, and return what is kept of it, a row for each of a group's texts, and [N S] where it
        holds padding; nothing is kept where nothing is shared."""
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
        counts = torch.tensor(texts)
        cache.select(torch.repeat_interleave(counts))
        return cache, None if pads is None else pads.repeat_interleave(counts, dim=0)

    def _tails(self, rows: Sequence[tuple[tuple[int, ...], int]], cache: Cache | None, pads: Tensor | None) -> Tensor:
        """Read what is each text's own, padded on the right, where nobody that counts sees it; [N T D]."""
        tails = [text[shared:] for text, shared in rows]
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

    def _said(self, asks: Sequence[tuple[Ask, int, int]], hidden: Tensor) -> list[Said]:
        """Return what is said to requests, from what the unembedding reads of their texts' tails. Each comes with its
        text's row, and how many tokens were read before the tail."""
        spans = [(ask.start - 1 - shared, len(ask.tokens) - 1 - shared, row) for ask, row, shared in asks]
        counts = [stop - start for start, stop, _ in spans]
        places = [row * hidden.shape[1] + place for start, stop, row in spans for place in range(start, stop)]
        # Where several requests are told from, as one-token answers to a question are, is scored once.
        scored, at = torch.tensor(places).unique(return_inverse=True)
        read, targets = (
            hidden.flatten(0, 1)[scored],
            torch.tensor([t for ask, *_ in asks for t in ask.tokens[ask.start :]]),
        )
        logs, greedy = torch.empty(len(at), dtype=torch.float64), torch.empty(len(at), dtype=torch.bool)
        step = max(1, SCORED_BYTES // (4 * self.model.vocabulary))
        for start in range(0, len(scored), step):
            here = (at >= start) & (at < start + step)
            scores = scores_of(self.model, read[start : start + step])
            logs[here], greedy[here] = _told(scores, at[here] - start, targets[here])
        sums = [float(part.sum()) for part in logs.split(counts)]
        if not torch.tensor(sums).isfinite().all():
            raise DivergedError("a log-likelihood is not finite: the model has diverged")
        likeliest = (bool(part.all()) for part in greedy.split(counts))
        return [Said(*each) for each in zip(sums, likeliest, counts, strict=True)]

    def _shared(self, group: Group) -> int:
        """Return how many tokens the texts of a group begin with and are read once: none of those that are asked about,
        nor the one before them, which the first of them is told from."""
        texts = len(_texts(group))
        if texts < 2 or not self._keeps:
            return 0
        least = min(ask.start for ask in group) - 1
        alike = _alike([ask.tokens[:least] for ask in group])
        return alike if alike * (texts - 1) >= WORTH else 0

    def _begins(self, group: Group, shared: int) -> tuple[int, ...]:
        """Return what a group may share with others: what its texts share, or of one text what is not asked about."""
        if shared or not self._keeps or len(_texts(group)) > 1:
            return group[0].tokens[:shared]
        return group[0].tokens[: min(ask.start for ask in group) - 1]

    def _fits(self, size: _Size) -> bool:
        """Return whether groups can be read together: what is read and kept of them is not too much, little of it is
        padding, and the longest beginning and the longest tail have room in a context."""
        begin, tail = max(size.begin, size.shares), max(size.tail, size.single - size.shares)
        begins, tails = (begin - size.shares) * size.groups, tail * size.texts
        room = begin + tail <= self.model.spec.context
        read = begins <= self.at_once and tails <= self.at_once
        full = begins + tails <= WASTE * (size.tokens - size.shares * size.groups) + LITTLE
        return room and read and full and (begin + tail) * size.texts * self._row_bytes <= KEPT_BYTES


class _Size(NamedTuple):
    """What some groups come to when they are read together.

    Attributes:
        groups: how many.
        texts: how many they have.
        alike: what all of them may share.
        begin: tokens that the texts of one group share, at most.
        tail: tokens behind those, at most.
        single: tokens of a text whose group shares nothing, at most.
        tokens: all of them, with what a group shares counted once.
    """

    groups: int = 0
    texts: int = 0
    alike: tuple[int, ...] = ()
    begin: int = 0
    tail: int = 0
    single: int = 0
    tokens: int = 0

    @property
    def shares(self) -> int:
        """Tokens that are read once for all groups."""
        return len(self.alike) if self.groups > 1 and len(self.alike) >= WORTH else 0

    def with_group(self, begins: tuple[int, ...], shared: int, lengths: Sequence[int]) -> _Size:
        """Return what they come to with one more: what it may share, how much its texts do share, how long they are."""
        return _Size(
            self.groups + 1,
            self.texts + len(lengths),
            begins[: _alike([self.alike, begins])] if self.groups else begins,
            max(self.begin, shared),
            max(self.tail, max(lengths) - shared if shared else 0),
            max(self.single, 0 if shared else max(lengths)),
            self.tokens + shared + sum(length - shared for length in lengths),
        )


def _batch(numbers: Sequence[int], common: int, shared: Sequence[int]) -> Batch:
    return Batch(tuple(numbers), common, tuple(max(common, shared[n]) for n in numbers))


def _texts(group: Group) -> dict[tuple[int, ...], int]:
    """Return what has to be read for a group's requests, numbered: the last token never is, so that several requests
    may have one text."""
    return {text: number for number, text in enumerate(dict.fromkeys(ask.tokens[:-1] for ask in group))}


def _told(scores: Tensor, rows: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log-probabilities of tokens by the scores [U V] in some of the rows, and whether each is the likeliest
    one, of equals the first. It passes over the scores less often than `log_softmax` and `argmax` do."""
    most = scores.amax(dim=1)
    totals = (scores - most[:, None]).exp_().sum(dim=1).log() + most
    own = scores[rows, targets]
    likeliest = own == most[rows]
    likeliest[likeliest.clone()] = scores[rows[likeliest]].argmax(dim=1) == targets[likeliest]
    return (own - totals[rows]).double(), likeliest


def _alike(texts: Sequence[tuple[int, ...]]) -> int:
    """Return how many tokens texts begin with together: the least and the greatest differ first."""
    least, greatest = min(texts), max(texts)
    pairs: Iterator[bool] = (a == b for a, b in zip(least, greatest, strict=False))
    return next((n for n, same in enumerate(pairs) if not same), min(len(least), len(greatest)))
