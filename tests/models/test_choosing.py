"""The rules of sampling against plain definitions, and the draw against its distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from etude.core.errors import UsageError
from etude.models.choosing import choose, draw, less_repetition, log_probability, min_p, top_k, top_p
from etude.models.sampling import Sampling
from etude.models.writing import Request, Writing
from etude.text.tokenizers.live import ByteTokenizer

SCORES = st.lists(st.integers(-40, 40).map(lambda n: n / 10), min_size=2, max_size=8, unique=True)
quick = settings(max_examples=60, deadline=None)


def left(scores: Tensor) -> set[int]:
    return set((scores[0] > -math.inf).nonzero().flatten().tolist())


def chances_of(scores: list[float]) -> list[float]:
    whole = [math.exp(s) for s in scores]
    return [value / sum(whole) for value in whole]


@quick
@given(scores=SCORES, k=st.integers(1, 9))
def test_top_k_leaves_the_k_likeliest(scores: list[float], k: int) -> None:
    expected = sorted(range(len(scores)), key=lambda i: -scores[i])[:k]
    assert left(top_k(torch.tensor([scores]), k)) == set(expected)


@quick
@given(scores=SCORES, p=st.floats(0.01, 0.99))
def test_top_p_leaves_the_fewest_that_reach_p(scores: list[float], p: float) -> None:
    chances, expected, reached = chances_of(scores), set[int](), 0.0
    for i in sorted(range(len(scores)), key=lambda i: -chances[i]):
        if abs(reached - p) < 1e-5:
            return  # rounding decides
        if reached >= p:
            break
        expected.add(i)
        reached += chances[i]
    assert left(top_p(torch.tensor([scores]), p)) == expected


@quick
@given(scores=SCORES, share=st.floats(0.001, 1))
def test_min_p_leaves_what_has_a_share_of_the_likeliest(scores: list[float], share: float) -> None:
    chances = chances_of(scores)
    ratios = [chance / max(chances) for chance in chances]
    if all(abs(ratio - share) > 1e-5 for ratio in ratios):
        assert left(min_p(torch.tensor([scores]), share)) == {i for i, ratio in enumerate(ratios) if ratio >= share}


def test_the_rules_keep_the_likeliest_at_their_limits() -> None:
    scores = torch.tensor([[0.0, 3.0, 1.0]])
    for ruled in (top_k(scores, 1), top_p(scores, 1e-9), min_p(scores, 1.0)):
        assert left(ruled) == {1}
    assert left(top_k(scores, 99)) == {0, 1, 2}


def test_what_is_repeated_is_less_likely_whatever_its_sign() -> None:
    scores, held = torch.tensor([[2.0, -2.0, 1.0, -1.0]]), torch.tensor([[True, True, False, False]])
    assert less_repetition(scores, held, 2.0).tolist() == [[1.0, -4.0, 1.0, -1.0]]


def numbers(count: int, number: int = 0, seed: int = 0) -> Tensor:
    text = Writing(Request(number, (), None, 1), ByteTokenizer(), Sampling(seed=seed))
    return torch.tensor([text.chance() for _ in range(count)], dtype=torch.float64)


RULES: list[dict[str, Any]] = [{}, {"temperature": 0.5}, {"temperature": 2.0, "top_k": 3}, {"top_p": 0.8, "min_p": 0.2}]


@pytest.mark.parametrize("rules", RULES, ids=str)
def test_what_is_drawn_has_the_distribution(rules: dict[str, Any]) -> None:
    scores, count = [0.5, 2.0, -1.0, 1.2, 0.0], 4000
    sampling = Sampling(**rules)
    drawn = choose(torch.tensor([scores]).expand(count, -1), sampling, None, numbers(count))
    chances = np.exp(np.array(scores) / sampling.temperature)
    chances /= chances.sum()
    order = np.argsort(-chances)
    if sampling.top_k:
        chances[order[sampling.top_k :]] = 0
    if sampling.top_p < 1:
        chances[order[np.cumsum(chances[order]) - chances[order] >= sampling.top_p]] = 0
    if sampling.min_p:
        chances[chances < sampling.min_p * chances.max()] = 0
    counts = np.bincount(drawn.numpy(), minlength=5)
    there = chances > 0
    assert not counts[~there].any()
    assert stats.chisquare(counts[there], count * chances[there] / chances.sum()).pvalue > 0.01


def test_streams_of_numbers_are_uniform_and_of_one_text_alone() -> None:
    one, other = numbers(2000), numbers(2000, number=1)
    assert stats.kstest(one.numpy(), "uniform").pvalue > 0.01
    assert abs(float(torch.corrcoef(torch.stack((one, other)))[0, 1])) < 0.06
    assert torch.equal(one, numbers(2000)) and not torch.equal(one, numbers(2000, seed=1))


def test_a_draw_meets_every_token_at_its_border_and_no_other() -> None:
    scores = torch.tensor([[-math.inf, 0.0, -math.inf, 0.0, -math.inf]])
    chances = {0.0: 1, 0.4999: 1, 0.5: 3, 1 - 2**-53: 3}
    assert [int(draw(scores, torch.tensor([c], dtype=torch.float64))) for c in chances] == list(chances.values())


def test_a_low_temperature_is_greedy() -> None:
    scores = torch.tensor([[1.0, 80.0, 79.9]])
    drawn = choose(scores, Sampling(temperature=1e-30), None, torch.tensor([0.999], dtype=torch.float64))
    assert drawn.tolist() == choose(scores, Sampling(temperature=0), None, None).tolist() == [1]


def test_log_probabilities_are_the_models() -> None:
    scores = torch.randn(3, 7)
    expected = scores.log_softmax(-1)[range(3), [1, 0, 6]]
    torch.testing.assert_close(log_probability(scores, torch.tensor([1, 0, 6])), expected)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"temperature": -0.1}, "temperature = -0.1 is below 0"),
    ({"top_p": 0}, "top_p = 0.0 is not above 0 and at most 1"),
    ({"top_p": 1.1}, "top_p = 1.1 is not above 0 and at most 1"),
    ({"min_p": -1}, "min_p = -1.0 is not from 0 to 1"),
    ({"top_k": -1}, "top_k = -1 is too small: it is 0 or more"),
    ({"repetition_penalty": 0}, "repetition_penalty = 0.0 is not above 0"),
    ({"max_tokens": -1}, "max_tokens = -1 is too small"),
    ({"stop": ("",)}, "stop holds an empty text"),
    ({"slide": True}, "set max_tokens"),
    ({"beams": 0}, "beams = 0 is too small: it is 1 or more"),
    ({"beams": 4}, "beam search draws nothing: set temperature to 0, not 1.0"),
    ({"beams": 4, "temperature": 0, "stop": ("a",)}, "beam search takes no stop"),
]


@pytest.mark.parametrize(("fields", "message"), WRONG, ids=str)
def test_what_cannot_be_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Sampling(**fields)
