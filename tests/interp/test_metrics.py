"""Metrics, each against its definition computed one number at a time."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from etude.core.errors import UsageError
from etude.interp.metrics import Divergence, LogitDifference, LogProbability, Loss, Metric, measured, positions_read

P, N, T, V = 2, 3, 5, 7
LOGITS = 3 * torch.randn(P, N, T, V, generator=torch.Generator().manual_seed(0))
TEXTS = torch.randint(V, (N, T), generator=torch.Generator().manual_seed(1))
ONE_EACH = torch.tensor([4, 0, 6])


def chances(row: Tensor) -> list[float]:
    """The softmax of one row, number by number."""
    whole = sum(math.exp(float(score)) for score in row)
    return [math.exp(float(score)) / whole for score in row]


@pytest.mark.parametrize("position", [-1, -4])
@pytest.mark.parametrize("right", [2, ONE_EACH], ids=["one for all", "one each"])
@pytest.mark.parametrize("wrong", [5, torch.tensor([1, 2, 3]), "mean", None], ids=["one", "each", "mean", "none"])
def test_a_logit_difference_is_the_difference_of_two_logits(right: Any, wrong: Any, position: int):
    found = LogitDifference(right, wrong, position)(LOGITS)
    assert found.shape == (P, N)
    for p in range(P):
        for n in range(N):
            row = LOGITS[p, n, position].tolist()
            expected = row[right if isinstance(right, int) else right[n]]
            if isinstance(wrong, str):
                expected -= sum(row) / V
            elif wrong is not None:
                expected -= row[wrong if isinstance(wrong, int) else wrong[n]]
            assert float(found[p, n]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("token", [2, ONE_EACH], ids=["one for all", "one each"])
def test_a_log_probability_is_that_of_the_token(token: Any):
    found = LogProbability(token, -2)(LOGITS)
    for p in range(P):
        for n in range(N):
            which = token if isinstance(token, int) else int(token[n])
            assert float(found[p, n]) == pytest.approx(math.log(chances(LOGITS[p, n, -2])[which]), abs=1e-5)


def test_the_loss_is_of_the_texts_own_next_tokens():
    found = Loss(TEXTS)(LOGITS)
    for p in range(P):
        for n in range(N):
            each = [-math.log(chances(LOGITS[p, n, t])[int(TEXTS[n, t + 1])]) for t in range(T - 1)]
            assert float(found[p, n]) == pytest.approx(sum(each) / (T - 1), abs=1e-5)


def test_the_divergence_is_from_the_reference_and_0_to_itself():
    found = Divergence(LOGITS[0])(LOGITS)
    torch.testing.assert_close(found[0], torch.zeros(N), atol=1e-6, rtol=0)
    for n in range(N):
        p, q = chances(LOGITS[0, n, -1]), chances(LOGITS[1, n, -1])
        expected = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        assert float(found[1, n]) == pytest.approx(expected, abs=1e-5)


ALL: list[Metric] = [LogitDifference(ONE_EACH, "mean", -2), LogProbability(3), Loss(TEXTS), Divergence(LOGITS[0])]


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: type(metric).__name__)
def test_many_variants_at_once_are_each_by_itself_and_the_positions_said_are_enough(metric: Metric):
    every = measured(metric, LOGITS)
    for p in range(P):
        torch.testing.assert_close(measured(metric, LOGITS[p : p + 1])[0], every[p])
        torch.testing.assert_close(measured(lambda logits: metric(logits), LOGITS)[p], every[p])
    last = positions_read(metric)
    torch.testing.assert_close(measured(metric, LOGITS[:, :, T - (last or T) :]), every)


def test_any_function_of_the_logits_reads_all_positions():
    assert positions_read(lambda logits: logits.sum()) == 0
    assert measured(lambda logits: logits.sum(), LOGITS).shape == (P, 1)


BAD: list[tuple[Any, str]] = [
    (LogitDifference(V), "token 7 is outside the vocabulary of 7 "),
    (LogitDifference(0, -1), "token -1 is outside the vocabulary"),
    (LogitDifference(torch.tensor([0, 1, V])), "token 7 is outside the vocabulary"),
    (LogitDifference(torch.tensor([0, 1])), r"names \[2\] tokens for 3 texts"),
    (LogitDifference(0, torch.tensor([0, 1, 2, 3])), r"names \[4\] tokens for 3 texts"),
    (LogProbability(torch.tensor([1])), r"names \[1\] tokens for 3 texts"),
    (Loss(TEXTS[:, :-1]), r"the loss is of texts \[3, 4\] and the logits are of \[3, 5\]"),
    (lambda logits: logits[:, 0, 0].tolist(), "the metric returned list"),
    (lambda logits: logits[:, 0], r"the metric returned \[3, 7\]: it returns one number, or one for each of 3 texts"),
]


@pytest.mark.parametrize(("metric", "words"), BAD, ids=[words[:30] for _, words in BAD])
def test_what_is_no_metric_of_these_texts_is_said_in_one_line(metric: Metric, words: str):
    with pytest.raises(UsageError, match=words) as caught:
        measured(metric, LOGITS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("metric", [LogitDifference(0, position=0), LogProbability(0, 2), Divergence(LOGITS[0], 1)])
def test_positions_are_counted_from_the_end(metric: Metric):
    with pytest.raises(UsageError, match="count it from the end, as -1 for the last"):
        positions_read(metric)
