"""What heads do: previous-token and induction scores on repeated random sequences of random period.

With a fixed period a model can look back a fixed distance, which is position and not induction; here the period of
every sequence is drawn anew, so only a head that finds the token after the last occurrence of the present one scores.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from etude.core.errors import UsageError
from etude.models.transformer import Transformer
from etude.nn.look import look


@dataclass(frozen=True)
class Repeats:
    """Random tokens that repeat with a period drawn for each sequence.

    Attributes:
        tokens: [N, T].
        period: [N].
    """

    tokens: np.ndarray
    period: np.ndarray


def repeats(n: int, length: int, vocabulary: int, seed: int) -> Repeats:
    """Return repeated random sequences. Within a period no token comes twice, so the place to look back to is one.

    Args:
        n: how many.
        length: T.
        vocabulary: tokens are drawn from 0 to this.
        seed: of the draw.

    Periods are uniform from T // 4 to T // 2, and at most the vocabulary.

    Raises:
        UsageError: there is no room to repeat anything.
    """
    if length < 4 or vocabulary < 2:
        raise UsageError(
            f"{length} positions and {vocabulary} tokens leave nothing to repeat: heads are scored on models with a"
            " context of at least 4 and a vocabulary of at least 2"
        )
    draw = np.random.Generator(np.random.PCG64(seed))
    low, high = max(2, length // 4), max(2, length // 2)
    period = np.minimum(draw.integers(low, high + 1, n), vocabulary)
    tokens = np.stack([np.resize(draw.permutation(vocabulary)[:p], length) for p in period])
    return Repeats(tokens, period)


@dataclass(frozen=True)
class HeadScores:
    """Mean attention of each head, per sequence, at the positions of the second period.

    There the present token has occurred once before, so there is one place to look back to. Later there are several,
    and a head that divides its attention between them would seem worse at what it does.

    Attributes:
        previous: [N, L, H] attention to the position just before.
        induction: [N, L, H] attention to the position after the last occurrence of the present token.
        first: [N, L, H] attention to the first position.
        chance: [N] what attention spread evenly over all visible positions would score.
        repeated_loss: [N] mean cross-entropy in nats where the answer has been seen, from the second period on.
        fresh_loss: [N] the same in the first period, where it cannot be known.
    """

    previous: np.ndarray
    induction: np.ndarray
    first: np.ndarray
    chance: np.ndarray
    repeated_loss: np.ndarray
    fresh_loss: np.ndarray


@torch.no_grad()
def head_scores(model: Transformer, sequences: Repeats, batch: int = 16) -> HeadScores:
    """Return what each head attends to on repeated random sequences."""
    parts = [_scores_of(model, tokens, period) for tokens, period in _parts(sequences, batch)]
    return HeadScores(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _parts(sequences: Repeats, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(sequences.tokens), batch):
        rows = slice(start, start + batch)
        yield torch.from_numpy(sequences.tokens[rows]), torch.from_numpy(sequences.period[rows])


def _scores_of(model: Transformer, tokens: Tensor, period: Tensor) -> tuple[np.ndarray, ...]:
    there = look(model, tokens.to(next(model.parameters()).device), ["L*.attn.pattern", "logits"])
    seen = {site: value.cpu() for site, value in there.items()}  # sums are in float64, which MPS has not
    logits = next(value for site, value in seen.items() if site == "logits")
    patterns = torch.stack([value for site, value in seen.items() if site != "logits"], 1)  # [B, L, H, T, T]
    length = tokens.shape[1]
    query = torch.arange(length)
    later = (query >= period[:, None]).double()  # [B, T]: the present token has been seen a period ago
    second = later * (query < 2 * period[:, None])  # and no earlier

    def attention_to(source: Tensor) -> np.ndarray:
        index = source.clamp(0, length - 1)[:, None, None, :, None].expand(*patterns.shape[:-1], 1)
        at = patterns.gather(-1, index).squeeze(-1).double()
        return ((at * second[:, None, None]).sum(-1) / second.sum(-1)[:, None, None]).numpy()

    rows = query.expand(len(tokens), -1)
    even = (second / (query + 1)).sum(-1) / second.sum(-1)
    logp = log_softmax(logits[:, :-1].double(), -1)
    loss = -logp.gather(-1, tokens[:, 1:, None]).squeeze(-1)  # [B, T-1]: of predicting position t + 1 at t
    known = later[:, :-1]
    return (
        attention_to(rows - 1),
        attention_to(rows - period[:, None] + 1),
        attention_to(torch.zeros_like(rows)),
        even.numpy(),
        ((loss * known).sum(1) / known.sum(1)).numpy(),
        ((loss * (1 - known)).sum(1) / (1 - known).sum(1)).numpy(),
    )
