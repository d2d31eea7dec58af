"""What is warned of, and that nothing is said of a sound fit; intervals; and what is advised for a budget."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from etude.core.errors import UsageError
from etude.scaling import notices
from etude.scaling.advice import KAPLAN, PF_DAY, TWENTY, advice
from etude.scaling.envelope import approach_1
from etude.scaling.intervals import interval
from etude.scaling.isoflop import approach_2
from etude.scaling.law import CHINCHILLA, SIX, Law, Power, Spending
from etude.scaling.points import Points

SMALL = Law(E=1.2, A=60, B=300, alpha=0.35, beta=0.37)


def sweep(off: float = 1, sizes: int = 6, budgets: int = 4) -> Points:
    flops = np.geomspace(1e12, 1e14, budgets)
    N = (np.array([SMALL.optimum(C).params * off for C in flops])[:, None] * 4 ** np.linspace(-1, 1, sizes)).ravel()
    D = np.repeat(flops, sizes) / (6 * N)
    return Points.of(N, D, SMALL.loss(N, D), budget=np.repeat(np.arange(budgets), sizes))


def of(points: Points) -> list[str]:
    return notices.of_approach_2(approach_2(points))


def test_of_a_sound_sweep_nothing_is_said() -> None:
    assert of(sweep()) == []


def test_a_minimum_at_the_edge_of_its_sweep_names_the_side_to_add() -> None:
    assert [("add larger sizes" in text, "edge of its sweep" in text) for text in of(sweep(off=0.2))] == [
        (True,) * 2
    ] * 4
    assert all("add smaller sizes" in text for text in of(sweep(off=6)))


def test_few_sizes_and_few_budgets_are_said() -> None:
    assert [text for text in of(sweep(sizes=3)) if "has 3 sizes" in text] == of(sweep(sizes=3))
    assert len(of(sweep(sizes=3))) == 4
    assert [("rests on 2 budgets" in text) for text in of(sweep(budgets=2))] == [True]


def test_budgets_left_out_are_said_with_the_reason() -> None:
    points = sweep()
    turned = replace(points, loss=np.where(points.budget == 1, 9 - points.loss, points.loss))
    (text,) = of(turned)
    assert text.startswith("The budget of 4.64e+12 FLOPs is left out: its parabola opens downward")
    few = points.without((points.budget == 2) & (np.arange(len(points)) % 6 > 0))
    assert of(few) == ["The budget of 2.15e+13 FLOPs is left out: it has 1 size and a parabola needs 3."]


def test_losses_that_are_all_the_same_have_no_valley() -> None:
    points = sweep()
    (text,) = of(replace(points, loss=np.where(points.budget == 1, 3.1, points.loss)))
    assert "4.64e+12 FLOPs is left out: its losses are the same" in text
    with pytest.raises(UsageError, match="0 of 4 budgets has a valley"):
        approach_2(replace(points, loss=np.full(len(points), 3.1)))


@pytest.mark.parametrize(("a", "b", "said"), [(0.5, 0.5, 0), (0.5, 0.54, 0), (0.5, 0.56, 1), (0.5, 0.44, 1)])
def test_exponents_whose_sum_strays_from_1_are_said(a: float, b: float, said: int) -> None:
    texts = notices.of_exponents("approach 2", Power(a, b, 1, 1))
    assert len(texts) == said and all(f"a + b = {a + b:.2f}" in text for text in texts)


def test_the_edges_and_the_few_steps_of_approach_1_are_said() -> None:
    best = [SMALL.optimum(C) for C in np.geomspace(1e12, 1e14, 5)]
    N = np.repeat([o.params for o in best], 4)
    D = (np.array([o.tokens for o in best])[:, None] * 8 ** np.linspace(-1, 1, 4)).ravel()
    texts = notices.of_approach_1(approach_1(Points.of(N, D, SMALL.loss(N, D))))
    assert ["smallest size is best" in texts[0], "largest size is best" in texts[1]] == [True] * 2
    assert "staircase of 3 sizes" in texts[2] and len(texts) == 3


def test_an_interval_is_of_percentiles_and_leaves_out_a_few_lost_draws() -> None:
    values = np.arange(1001.0)
    found = interval(500, np.append(values, [np.nan] * 10))
    assert (found.low, found.high, found.lost, found.draws) == (25, 975, 10, 1011)
    assert found.holds(25) and not found.holds(24.9)
    assert json.loads(json.dumps(found.to_json())) == {"estimate": 500, "interval": [25, 975]}
    assert notices.of_draws({"a": found}) == []


def test_where_more_than_a_twentieth_of_draws_is_lost_there_is_no_interval() -> None:
    """What is left of fewer draws cannot hold 95% of them: a sweep with one clear budget looked sure of itself."""
    some, enough = (interval(1.0, np.append(np.ones(100 - lost), [np.nan] * lost)) for lost in (6, 5))
    (text,) = notices.of_draws({"a": some, "b": interval(1.0, np.ones(10)), "c": enough})
    assert text == "a has no interval: 6 of 100 draws of the bootstrap gave no number."
    assert some.to_json()["interval"] is None and enough.to_json()["interval"] == [1.0, 1.0]
    none = interval(1.0, np.full(5, np.nan))
    assert none.to_json() == {"estimate": 1.0, "interval": None} and not none.holds(1.0)
    assert notices.of_draws({"a": none})[0].startswith("a has no interval")


def test_starts_that_disagree_are_said() -> None:
    assert notices.of_starts(0.8, 1e-4) == []
    assert "Only 2.0% of the starts" in notices.of_starts(0.02, 0)[0]
    assert "by up to 0.05 in alpha or beta" in notices.of_starts(0.5, 0.05)[0]


def test_what_is_published_is_advised_beside_what_was_fitted() -> None:
    rows = advice(5.76e23, {"approach 2": approach_2(sweep()).optimum})
    assert [row.source.partition(",")[0] for row in rows] == [
        "approach 2", "Kaplan et al. 2020", "Hoffmann et al. 2022", "Hoffmann et al. 2022"]  # fmt: skip
    assert [row.embeddings for row in rows] == [None, False, True, True]
    for row in rows[1:]:  # every one of them spends the budget
        assert 6 * row.params * row.tokens == pytest.approx(5.76e23)
    ours, kaplan, twenty, law = rows
    assert ours.loss is not None and kaplan.loss is twenty.loss is None
    assert twenty.tokens_per_parameter == pytest.approx(20) and twenty.params == pytest.approx(69.3e9, rel=1e-3)
    assert law.params == CHINCHILLA.optimum(5.76e23).params
    assert kaplan.params > 10 * twenty.params  # what the two papers disagree about


def test_kaplan_is_read_off_its_table_at_a_petaflop_day() -> None:
    assert KAPLAN.params(PF_DAY) == pytest.approx(1.3e9)
    assert KAPLAN.params(10 * PF_DAY) == pytest.approx(1.3e9 * 10**0.73)
    assert KAPLAN.tokens(PF_DAY) == pytest.approx(PF_DAY / (6 * 1.3e9))
    assert KAPLAN.a + KAPLAN.b == TWENTY.a + TWENTY.b == 1


@pytest.mark.parametrize("flops", [0.0, -1.0, float("nan"), float("inf")])
def test_advice_for_no_budget_is_one_line(flops: float) -> None:
    with pytest.raises(UsageError, match="give a finite number above 0"):
        advice(flops, {})


def test_flops_that_are_no_power_of_size_are_said_of_approach_3() -> None:
    points = sweep()
    assert notices.of_spending(points, SIX) == []
    assert notices.of_spending(replace(points, flops=points.flops * points.params**0.1), Spending(6, 1.1)) == []
    (words,) = notices.of_spending(replace(points, flops=points.flops * (1 + 1e4 / points.params)), SIX)
    assert "off from 6 N^1.00 D, which approach 3 reckons with" in words


def test_sizes_with_one_training_each_are_warned_of():
    alone = Points.of([1, 2, 3, 3], [1, 2, 3, 4], [4, 3, 2, 1])
    (words,) = notices.of_runs(alone)
    assert words.startswith("2 of 3 sizes have one training each: ") and "too narrow" in words
    assert notices.of_runs(Points.of([1, 1, 3, 3], [1, 2, 3, 4], [4, 3, 2, 1])) == []
    curves = Points.of([1, 1, 3, 3], [1, 2, 3, 4], [4, 3, 2, 1], run=[0, 0, 1, 1])
    assert notices.of_runs(curves)  # rows of one training are no second one
