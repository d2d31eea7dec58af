"""From scores to the next token: each rule a pure function from scores to scores, and the draw.

A token that a rule rules out has the score -inf. The rules and their sources are those of `etude.models.sampling`.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from etude.models.sampling import Sampling

Scores = Float[Tensor, "B V"]


def less_repetition(scores: Scores, held: Bool[Tensor, "B V"], penalty: float) -> Scores:
    """Return scores with those of tokens that the text holds divided by the penalty where positive, else multiplied
    (Keskar et al. 2019, section 4.1, whose formula divides; a negative score would so become likelier)."""
    return torch.where(held, torch.where(scores > 0, scores / penalty, scores * penalty), scores)


def top_k(scores: Scores, k: int) -> Scores:
    """Leave the k highest scores of each row, and what ties with the last of them (Fan et al. 2018)."""
    if k >= scores.shape[-1]:
        return scores
    least = scores.topk(k, dim=-1).values[:, -1:]
    return scores.masked_fill(scores < least, -math.inf)


def top_p(scores: Scores, p: float) -> Scores:
    """Leave the fewest tokens, from the likeliest on, whose chances reach p together (Holtzman et al. 2020)."""
    highest, order = scores.sort(dim=-1, descending=True)
    chances = highest.softmax(dim=-1)
    before = chances.cumsum(dim=-1) - chances
    out = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, order, before >= p)
    out.scatter_(-1, order[:, :1], value=False)  # the likeliest stays, however small p is
    return scores.masked_fill(out, -math.inf)


def min_p(scores: Scores, share: float) -> Scores:
    """Leave the tokens with at least this share of the likeliest one's chance (Nguyen et al. 2024)."""
    return scores.masked_fill(scores < scores.amax(dim=-1, keepdim=True) + math.log(share), -math.inf)


def draw(scores: Scores, chances: Float[Tensor, " B"]) -> Int[Tensor, " B"]:
    """Return the token of each row at which its distribution function passes a number from 0 to below 1.

    Sums are in double precision where the device has it, so that the same number meets the same token whatever else is
    in the batch, but where rounding moves a border across it.
    """
    wide = torch.float32 if scores.device.type == "mps" else torch.float64
    reached = scores.softmax(dim=-1, dtype=wide).cumsum(dim=-1)
    at = chances.to(scores.device, wide)[:, None] * reached[:, -1:]
    return torch.searchsorted(reached, at, right=True).squeeze(1).clamp_(max=scores.shape[-1] - 1)


def choose(
    scores: Scores, sampling: Sampling, held: Bool[Tensor, "B V"] | None, chances: Float[Tensor, " B"] | None
) -> Int[Tensor, " B"]:
    """Return the next token of each row.

    Args:
        scores: the model's, in fp32.
        sampling: the rules, which act in the order of its fields.
        held: the tokens of each text, where repetition has a penalty.
        chances: a number from 0 to below 1 for each row, where tokens are drawn.
    """
    if held is not None:
        scores = less_repetition(scores, held, sampling.repetition_penalty)
    if chances is None:
        return scores.argmax(dim=-1)
    scores = (scores - scores.amax(dim=-1, keepdim=True)) / sampling.temperature  # so that none overflows
    if sampling.top_k:
        scores = top_k(scores, sampling.top_k)
    if sampling.top_p < 1:
        scores = top_p(scores, sampling.top_p)
    if sampling.min_p:
        scores = min_p(scores, sampling.min_p)
    return draw(scores, chances)


def log_probability(scores: Scores, tokens: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Return the log-probability of each row's token in nats, by the model's own scores: before any rule."""
    return scores.gather(-1, tokens[:, None]).squeeze(1) - scores.logsumexp(dim=-1)
