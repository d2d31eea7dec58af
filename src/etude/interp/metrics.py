"""What a patch, an ablation or an attribution is measured by: one number a text, from the logits.

Any function from logits [N, T, V] to a number, or to one for each of the N texts, will do; those here say beforehand
how many positions at the end they read, so that the unembedding is computed for these alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from etude.core.errors import UsageError

Metric = Callable[[Any], Any]
"""From logits [N, T, V] to a number [] or to one a text [N]."""


@dataclass(frozen=True, eq=False)
class LogitDifference:
    """How far the right token's logit is above the wrong one's at one position.

    Attributes:
        right: [N] tokens, one a text, or a single one for all.
        wrong: the same; `mean` is the mean logit of the vocabulary, and None measures the right one's logit alone.
        position: where, counted from the end: -1 is the last.
    """

    right: Int[Tensor, " N"] | int
    wrong: Int[Tensor, " N"] | int | Literal["mean"] | None = None
    position: int = -1

    @property
    def last(self) -> int:
        """Positions at the end that are read."""
        return -_from_end(self.position)

    def __call__(self, logits: Float[Tensor, "*P T V"]) -> Float[Tensor, "*P"]:
        at = logits[..., self.position, :]
        right = _of_token(at, self.right)
        if self.wrong is None:
            return right
        return right - (at.mean(-1) if isinstance(self.wrong, str) else _of_token(at, self.wrong))


@dataclass(frozen=True, eq=False)
class LogProbability:
    """The log-probability of a token at one position, in nats.

    Attributes:
        token: [N] tokens, one a text, or a single one for all.
        position: where, counted from the end.
    """

    token: Int[Tensor, " N"] | int
    position: int = -1

    @property
    def last(self) -> int:
        """Positions at the end that are read."""
        return -_from_end(self.position)

    def __call__(self, logits: Float[Tensor, "*P T V"]) -> Float[Tensor, "*P"]:
        return _of_token(logits[..., self.position, :].log_softmax(-1), self.token)


@dataclass(frozen=True, eq=False)
class Loss:
    """The mean cross-entropy of a text's own next tokens, in nats.

    Attributes:
        tokens: [N T] the texts.
    """

    tokens: Int[Tensor, "N T"]

    last = 0

    def __call__(self, logits: Float[Tensor, "*P T V"]) -> Float[Tensor, "*P"]:
        if self.tokens.shape != logits.shape[-3:-1] or self.tokens.shape[1] < 2:
            read, given = list(logits.shape[-3:-1]), list(self.tokens.shape)
            raise UsageError(
                f"the loss is of texts {given} and the logits are of {read}: give the texts that are read, of at least"
                " two tokens"
            )
        answers = self.tokens[:, 1:, None].to(logits.device).expand(*logits.shape[:-2], -1, 1)
        return -logits[..., :-1, :].log_softmax(-1).gather(-1, answers).squeeze(-1).mean(-1)


@dataclass(frozen=True, eq=False)
class Divergence:
    """The Kullback-Leibler divergence from reference predictions to these at one position, in nats.

    Attributes:
        reference: [N T V] logits, of as many positions as are needed.
        position: where, counted from the end.
    """

    reference: Float[Tensor, "N T V"]
    position: int = -1

    @property
    def last(self) -> int:
        """Positions at the end that are read."""
        return -_from_end(self.position)

    def __call__(self, logits: Float[Tensor, "*P T V"]) -> Float[Tensor, "*P"]:
        if self.reference.ndim != 3 or len(self.reference) != logits.shape[-3]:
            found, texts = list(self.reference.shape), logits.shape[-3]
            raise UsageError(f"the reference is {found} for {texts} texts: give logits [N T V] of these")
        p = self.reference[:, self.position].to(logits.device).log_softmax(-1)
        return (p.exp() * (p - logits[..., self.position, :].log_softmax(-1))).sum(-1)


def positions_read(metric: Metric) -> int:
    """Return how many positions at the end a metric reads; 0 is all of them."""
    return int(getattr(metric, "last", 0))


def measured(metric: Metric, logits: Float[Tensor, "P N T V"]) -> Float[Tensor, "P M"]:
    """Return a metric of each of P variants of N texts: M is N, or 1 where the metric gives one number for all texts.

    Raises:
        UsageError: the metric returned something else.
    """
    if isinstance(metric, LogitDifference | LogProbability | Loss | Divergence):
        return metric(logits)
    return torch.stack([_checked(metric(variant), len(variant)) for variant in logits])


def _checked(value: Any, texts: int) -> Float[Tensor, " M"]:
    if not isinstance(value, Tensor) or value.shape not in ((), (texts,)):
        found = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise UsageError(f"the metric returned {found}: it returns one number, or one for each of {texts} texts")
    return value.reshape(-1)


def _from_end(position: int) -> int:
    if position >= 0:
        raise UsageError(f"position = {position}: count it from the end, as -1 for the last")
    return position


def _of_token(values: Float[Tensor, "*P V"], token: Tensor | int) -> Float[Tensor, "*P"]:
    """Return the value of one token, or of one for each text."""
    if isinstance(token, int):
        require_token(token, values.shape[-1])
        return values[..., token]
    for one in token.tolist():
        require_token(one, values.shape[-1])
    texts = values.shape[-2] if values.ndim > 1 else 1
    if token.shape != (texts,):
        raise UsageError(
            f"the metric names {list(token.shape)} tokens for {texts} texts: give one each, or one for all"
        )
    return values.gather(-1, token.to(values.device).expand(values.shape[:-1])[..., None]).squeeze(-1)


def require_token(token: int, vocabulary: int) -> None:
    """Raise UsageError where a token is none of the vocabulary."""
    if not 0 <= token < vocabulary:
        raise UsageError(f"token {token} is outside the vocabulary of {vocabulary} (0 to {vocabulary - 1})")
