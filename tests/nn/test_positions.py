"""Positions against their formulas."""

from __future__ import annotations

import math

import pytest
import torch

from etude.core.errors import UsageError
from etude.nn.dot_product import attention_scores
from etude.nn.embedding import Embedding
from etude.nn.positions import Rotary, sinusoids


@pytest.mark.parametrize("width", [2, 12, 768])
def test_sinusoids_are_the_papers(width: int) -> None:
    table = sinusoids(20, width)
    for position in (0, 1, 7, 19):
        for pair in {0, width // 4, width // 2 - 1}:
            angle = position / 10_000 ** (2 * pair / width)
            assert table[position, 2 * pair] == pytest.approx(math.sin(angle), abs=1e-7)
            assert table[position, 2 * pair + 1] == pytest.approx(math.cos(angle), abs=1e-7)


@pytest.mark.parametrize("base", [10_000.0, 50.0])
def test_rotary_scores_depend_on_distance_alone(base: float) -> None:
    rotary = Rotary(16, 40, base)
    q, k = (torch.randn(1, 1, 2, 16).expand(1, 40, 2, 16) for _ in range(2))  # the same vectors at every position
    scores = attention_scores(rotary(q).transpose(1, 2), rotary(k).transpose(1, 2))
    torch.testing.assert_close(scores[..., :-1, :-1], scores[..., 1:, 1:])
    assert scores[0, 0].std() > 0.1  # and they do depend on it


def test_rotary_keeps_lengths_and_the_first_position() -> None:
    rotary, x = Rotary(8, 10, 10_000.0), torch.randn(3, 10, 2, 8)
    turned = rotary(x)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(turned[:, 0], x[:, 0])


def test_rotary_keeps_the_precision_of_what_it_turns() -> None:
    assert Rotary(8, 10, 10_000.0)(torch.randn(1, 4, 2, 8, dtype=torch.bfloat16)).dtype is torch.bfloat16


@pytest.mark.parametrize("wrong", [-1, 10])
def test_places_that_a_model_has_not_are_refused(wrong: int) -> None:
    at = torch.tensor([[0, wrong, 2]])
    with pytest.raises(UsageError, match=f"position {wrong} is none of 0 to 9, which the model has"):
        Rotary(8, 10, 10_000.0)(torch.randn(1, 3, 2, 8), at)
    learned = Embedding(5, 8, 10, segments=10)
    with pytest.raises(UsageError, match=f"position {wrong} is none of 0 to 9"):
        learned(torch.zeros_like(at), at)
    with pytest.raises(UsageError, match=f"segment {wrong} is none of 0 to 9"):
        learned(torch.zeros_like(at), segments=at)
