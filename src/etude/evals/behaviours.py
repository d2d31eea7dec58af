"""What heads do: previous-token and induction scores on repeated random sequences of random period.

With a fixed period a model can look back a fixed distance, which is position and not induction; here the period of
every sequence is drawn anew, so only a head that finds the token after the last occurrence of the present one scores.
What a fixed distance can come to is measured beside it: attention to where that token would be, had the period been
another of those that are drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import log_softmax

from etude.core.errors import UsageError
from etude.models.transformer import Transformer
from etude.nn.look import look
from etude.text.data import TextData

LOOKED_AT = 1 << 22
"""Tokens of a corpus that are looked at to know which there are."""


@dataclass(frozen=True)
class Repeats:
    """Random tokens that repeat with a period drawn for each sequence.

    Attributes:
        tokens: [N, T].
        period: [N].
        other: [N] a period that it could have been and is not, or 0 where there is none (`other_periods`). None where
            nobody drew the periods.
    """

    tokens: np.ndarray
    period: np.ndarray
    other: np.ndarray | None = None


def repeats(n: int, length: int, vocabulary: int | np.ndarray, seed: int) -> Repeats:
    """Return repeated random sequences. Within a period no token comes twice, so the place to look back to is one.

    Args:
        n: how many.
        length: T.
        vocabulary: tokens are drawn from 0 to this, or from these.
        seed: of the draw.

    Periods are uniform from T // 4 to T // 2, both at most the number of tokens.

    Raises:
        UsageError: there is no room to repeat anything.
    """
    among = np.arange(vocabulary) if isinstance(vocabulary, int) else vocabulary
    if length < 4 or len(among) < 2:
        raise UsageError(
            f"{length} positions and {len(among)} tokens leave nothing to repeat: heads are scored on models with a"
            " context of at least 4 and a vocabulary of at least 2"
        )
    draw = np.random.Generator(np.random.PCG64(seed))
    low, high = (min(max(2, length // share), len(among)) for share in (4, 2))
    period = draw.integers(low, high + 1, n)
    tokens = np.stack([np.resize(among[draw.permutation(len(among))[:p]], length) for p in period])
    return Repeats(tokens, period, other_periods(period, low, high))


def tokens_in(data: TextData) -> np.ndarray:
    """Return the tokens that a corpus is made of, rising: those of its training split (of the first `LOOKED_AT`, if it
    has more), without the marks that a tokenizer adds. On others a model's vectors are as they were at first."""
    tokenizer = data.tokenizer
    marks = [tokenizer.end, *tokenizer.specials.values()]
    return np.setdiff1d(np.unique(data.store("train").tokens[:LOOKED_AT]), marks).astype(np.int64)


def other_periods(period: np.ndarray, low: int, high: int) -> np.ndarray:
    """Return for each period another of the same range, half of the range further on and round from its end to its
    start: where every period is as likely, so is every other.

    It is never the next one, with which the place to look back to would be the last occurrence of the present token
    itself. With two periods that cannot be kept, and with one there is no other: all are then 0.

    Args:
        period: [N], from low to high.
        low: the smallest.
        high: the greatest.
    """
    count = high - low + 1
    return low + (period - low + (count + 1) // 2) % count if count > 2 else np.zeros_like(period)


@dataclass(frozen=True)
class HeadScores:
    """Mean attention of each head, per sequence, at the positions of the second period.

    There the present token has occurred once before, so there is one place to look back to. Later there are several,
    and a head that divides its attention between them would seem worse at what it does.

    Attributes:
        previous: [N, L, H] attention to the position just before.
        duplicate: [N, L, H] attention to the last occurrence of the present token.
        induction: [N, L, H] attention to the position after the last occurrence of the present token.
        off_period: [N, L, H] attention to where that position would be if the period were `Repeats.other`, at those of
            the positions that have such a place. A head that looks back a fixed distance scores alike on this and on
            induction, a head that does induction here next to nothing. NaN where there is no other period.
        first: [N, L, H] attention to the first position.
        chance: [N, L] what attention spread evenly over all positions that a layer's rule lets it see would give to
            each of them. Of a place outside a window it is more than can be scored.
        repeated_loss: [N] mean cross-entropy in nats where the answer has been seen, from the second period on.
        fresh_loss: [N] the same in the first period, where it cannot be known.
    """

    previous: np.ndarray
    duplicate: np.ndarray
    induction: np.ndarray
    off_period: np.ndarray
    first: np.ndarray
    chance: np.ndarray
    repeated_loss: np.ndarray
    fresh_loss: np.ndarray


@torch.no_grad()
def head_scores(model: Transformer, sequences: Repeats, batch: int = 16) -> HeadScores:
    """Return what each head attends to on repeated random sequences."""
    parts = [_scores_of(model, *part) for part in _parts(sequences, batch)]
    return HeadScores(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _parts(sequences: Repeats, batch: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    other = np.zeros_like(sequences.period) if sequences.other is None else sequences.other
    for start in range(0, len(sequences.tokens), batch):
        rows = slice(start, start + batch)
        tokens, period, instead = (torch.from_numpy(a[rows]) for a in (sequences.tokens, sequences.period, other))
        yield tokens, period, instead


def _scores_of(model: Transformer, tokens: Tensor, period: Tensor, other: Tensor) -> tuple[np.ndarray, ...]:
    sites = ["L*.attn.pattern", "logits"] if model.spec.layers else "logits"
    there = look(model, tokens.to(next(model.parameters()).device), sites)
    seen = {site: value.cpu() for site, value in there.items()}  # sums are in float64, which MPS has not
    logits = next(value for site, value in seen.items() if site == "logits")
    length = tokens.shape[1]
    none = logits.new_zeros(len(tokens), 0, model.spec.heads, length, length)
    each = [value for site, value in seen.items() if site != "logits"]
    patterns = torch.stack(each, 1) if each else none  # [B, L, H, T, T]
    query = torch.arange(length)
    later = (query >= period[:, None]).double()  # [B, T]: the present token has been seen a period ago
    second = later * (query < 2 * period[:, None])  # and no earlier

    def attention_to(source: Tensor, where: Tensor = second) -> np.ndarray:
        index = source.clamp(0, length - 1)[:, None, None, :, None].expand(*patterns.shape[:-1], 1)
        at = patterns.gather(-1, index).squeeze(-1).double()
        return ((at * where[:, None, None]).sum(-1) / where.sum(-1)[:, None, None]).numpy()

    rows = query.expand(len(tokens), -1)
    elsewhere = rows - other[:, None] + 1
    has_one = second * (elsewhere >= 0) * (other[:, None] > 0)  # nowhere without another period: 0 / 0 is NaN
    visible = _visible(model, length)
    even = (second[:, None] / visible).sum(-1) / second.sum(-1)[:, None]
    logp = log_softmax(logits[:, :-1].double(), -1)
    loss = -logp.gather(-1, tokens[:, 1:, None]).squeeze(-1)  # [B, T-1]: of predicting position t + 1 at t
    known = later[:, :-1]
    return (
        attention_to(rows - 1),
        attention_to(rows - period[:, None]),
        attention_to(rows - period[:, None] + 1),
        attention_to(elsewhere, has_one),
        attention_to(torch.zeros_like(rows)),
        even.numpy(),
        ((loss * known).sum(1) / known.sum(1)).numpy(),
        ((loss * (1 - known)).sum(1) / (1 - known).sum(1)).numpy(),
    )


def _visible(model: Transformer, length: int) -> Int[Tensor, "L T"]:
    """Return how many positions each layer sees from each."""
    counts = [layer.attn.rule.mask(length, length).sum(-1) for layer in cast("Any", model).layers]
    return torch.stack(counts) if counts else torch.zeros(0, length, dtype=torch.int64)
