"""Social neurons: thresholds against trying all of them, planted units that are found, and units that know nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from tests.culture.small import SETTING, small

from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.run import Draft
from etude.culture.agent import Agent
from etude.culture.memories.without import Without
from etude.culture.presence import HALF
from etude.culture.raising import new_agent, trial_of
from etude.culture.recipes import SocialNeurons
from etude.culture.social import best_cuts, of_others, rank, rank_correlation, told
from etude.culture.social_work import ABLATED, FLICKERS, UNITS, ablate, effect, fixed, read

OF = small(setting=replace(SETTING, steps=20), memory=Without(), width=6)
SOCIAL = 2
"""The unit that is wired by hand."""


@given(st.integers(0, 2**20), st.integers(1, 30), st.sampled_from([2, 5, 1000]))
@settings(max_examples=60, deadline=None)
def test_no_threshold_tells_more(seed: int, rows: int, kinds: int) -> None:
    """Against trying every one; with few kinds of values there are ties, and units that are always alike."""
    draw = np.random.default_rng(seed)
    x, there = draw.integers(0, kinds, (rows, 3)).astype(np.float32), draw.random(rows) < 0.4
    cuts = best_cuts(x, there)
    for unit in range(3):
        column = x[:, unit]
        tries = [column.min() - 1, *np.unique(column)]
        most = max(max((there == (column > at)).mean(), (there == (column <= at)).mean()) for at in tries)
        assert cuts.right[unit] == pytest.approx(most)
    np.testing.assert_allclose((cuts.tell(x) == there[:, None]).mean(0), cuts.right)


def test_thresholds_are_chosen_in_one_half_and_judged_in_the_other() -> None:
    there = np.random.default_rng(0).random((40, 25)) < 0.5
    knows, unlearned = there.astype(np.float32), there.astype(np.float32)
    unlearned[:20] = 0.0  # in the first half it says nothing, so what it says in the second cannot be used
    turned = there.astype(np.float32)
    turned[20:] = 1 - turned[20:]
    found = told(np.stack([unlearned, turned, knows, 0.5 - knows], axis=-1), there)
    assert found.best == 1, "the first of equals in the first half"
    assert found.accuracy[2].mean == found.accuracy[3].mean == 1.0
    assert found.accuracy[1].mean == 0.0
    assert found.accuracy[0].mean == found.base.mean() and found.gain[0].mean == 0.0
    assert all(each.n == 20 for each in found.accuracy), "a world is a unit of the interval"
    with pytest.raises(UsageError, match=r"^3 worlds are too few: "):
        told(np.zeros((3, 4, 2), np.float32), there[:3, :4])


def test_presence_of_other_worlds_stays_in_its_half() -> None:
    there = np.eye(6, dtype=bool)
    others = of_others(there)
    assert not (others & there).any()
    assert others[:3, :3].any(1).all() and others[3:, 3:].any(1).all()


def wired(to_action: float = 0.0) -> Agent:
    """Return an agent whose unit is the sight of its expert, and whose other units do not see the expert at all."""
    agent = new_agent(OF).requires_grad_(False)
    colours = OF.setting.width
    flag = 4 * colours + 2
    agent.embed.W_seen[4 * colours : 4 * colours + 3 + colours] = 0.0
    agent.embed.W_seen[:, SOCIAL] = 0.0
    agent.embed.W_seen[flag, SOCIAL] = 1.0
    weights = agent.memory.get_parameter("W_in")
    weights[:, SOCIAL] = weights[SOCIAL] = 0.0
    weights[SOCIAL, SOCIAL] = 1.0
    agent.W_act.zero_()
    agent.W_act[SOCIAL] = to_action * torch.arange(5.0)
    return agent


def test_a_unit_that_is_wired_to_the_expert_is_found_and_others_are_not() -> None:
    layout = trial_of(OF, 200, "a test")
    reading, means, deviations = read(wired(), OF, layout, FLICKERS, seed=3)
    units = reading["units"]
    assert units.best == SOCIAL and units.accuracy[SOCIAL].mean == 1.0
    others = [gain for unit, gain in enumerate(units.gain) if unit != SOCIAL]
    assert not any(gain.above(0) for gain in others)
    assert max(gain.mean for gain in others) < 0.05
    assert max(each.mean for each in reading["of_other_worlds"].gain) < 0.05
    assert abs(reading["clock"].accuracy[0].mean - 0.5) < 0.06
    assert reading["probe"]["score"]["mean"] == 1.0
    assert means[SOCIAL] == pytest.approx(reading["present"]) and deviations.shape == (6,)


def test_half_way_dropout_confounds_presence_with_time() -> None:
    reading, _, _ = read(wired(), OF, trial_of(OF, 40, "a test"), HALF, seed=3)
    assert reading["clock"].accuracy[0].mean == 1.0
    np.testing.assert_array_equal(reading["of_other_worlds"].right, reading["units"].right)


def test_what_each_unit_does_is_measured_by_taking_it_away(tmp_path) -> None:
    """Actions hang on the wired unit alone, so the others do nothing, exactly."""
    agent, layout = wired(to_action=0.6), trial_of(OF, 60, "a test")
    means = np.full(6, 0.5, np.float32)
    found = ablate(agent, OF, layout, means, 5, Draft(tmp_path / "draft", SocialNeurons(OF)))
    for name in ("full", "recalled"):
        lost = found[f"{name}.whole"] - found[name]
        assert lost.shape == (6, 60)
        assert not np.delete(lost, SOCIAL, axis=0).any()
        assert lost[SOCIAL].any()
    again = ablate(agent, OF, layout, means, 5, Draft(tmp_path / "again", SocialNeurons(OF)))
    assert all(np.array_equal(found[name], again[name]) for name in found)


def test_the_effect_of_one_unit_among_the_others() -> None:
    there = np.random.default_rng(0).random((8, 10)) < 0.5
    units = told(np.stack([there * 1.0, there * 0.0, ~there * 0.5, there[::-1] * 1.0], axis=-1), there)
    whole, draw = np.full(30, 4.0), np.random.default_rng(1)
    costs = np.array([2.0, 0.5, 0.0, -0.5])
    without = whole - costs[:, None] - draw.normal(0, 0.01, (4, 30))
    deviations = np.array([1.0, 4.0, 3.0, 2.0])
    found = effect(whole, without, 0, units, deviations)
    assert found["rank"] == 1 and found["score"]["mean"] == 4.0
    assert found["lost"]["mean"] == pytest.approx(2.0, abs=0.01)
    assert found["more_than_others"]["mean"] == pytest.approx(2.0, abs=0.01) and found["more_than_others"]["n"] == 30
    assert found["with_deviation"]["mean"] == spearmanr(deviations, costs)[0]
    assert effect(whole, without, 3, units, deviations)["rank"] == 4


def test_rank_correlation() -> None:
    draw = np.random.default_rng(0)
    x, y = draw.integers(0, 5, 30), draw.integers(0, 5, 30)
    found = rank_correlation(x, y)
    assert found.mean == pytest.approx(spearmanr(x, y)[0]) and found.low < found.mean < found.high
    assert rank_correlation(np.arange(9.0), np.arange(9.0) ** 3).mean == pytest.approx(1)
    nothing = rank_correlation(np.arange(9.0), np.zeros(9))
    assert (nothing.mean, nothing.low, nothing.high) == (0.0, -1.0, 1.0)
    few = rank_correlation(np.arange(3.0), np.arange(3.0))
    assert (few.low, few.high) == (-1.0, 1.0)


def test_its_interval_holds_the_truth_as_often_as_it_says() -> None:
    draw, covered, truth = np.random.default_rng(1), 0, 6 / np.pi * np.arcsin(0.5 / 2)
    for _ in range(400):
        x, noise = draw.normal(size=(2, 40))
        found = rank_correlation(x, 0.5 * x + np.sqrt(0.75) * noise)
        covered += found.low < truth < found.high
    assert 0.92 < covered / 400 < 0.98


def test_equal_effects_share_the_worst_rank() -> None:
    values = np.array([0.0, 3.0, 0.0, 1.0])
    assert [rank(values, unit) for unit in range(4)] == [4, 1, 4, 2]


def test_a_fixed_unit_is_the_same_at_every_step_and_the_others_are_as_they_were() -> None:
    x = torch.randn(2, 3, 4)
    new = fixed(1, 0.25)(x)
    assert (new[..., 1] == 0.25).all() and torch.equal(new[..., [0, 2, 3]], x[..., [0, 2, 3]])


def test_the_work_tells_and_saves_it(tmp_path) -> None:
    recipe = SocialNeurons(small(updates=2, keep_every=1), update=1, worlds=8)
    run = Lab(tmp_path, threads=1, quiet=True).run(recipe)
    assert len(run.inputs) == 2 and recipe.untrained.updates == 0
    result = run.result
    assert result["units"] == 8 and 0 <= result["unit"] < 8
    assert result["flickers"]["best"]["unit"] == result["unit"]
    assert set(result["ablation"]) == {"full", "recalled"}
    json.dumps(result, allow_nan=False)
    units, ablated = run.tensors(UNITS), run.tensors(ABLATED)
    assert units["flickers.accuracy"].shape == (8,) and ablated["full"].shape == (8, 8)
    told_of = result["flickers"]["best"]["accuracy"]
    assert told_of["mean"] == pytest.approx(units["flickers.accuracy"][result["unit"]])
    score = result["ablation"]["recalled"]["score"]["mean"]
    assert score == pytest.approx(ablated["recalled.whole"].mean())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"worlds": 3}, "worlds = 3: give 2 to choose thresholds by and 2 to judge them"),
        ({"update": 5}, "update = 5: an agent is kept every"),
        ({"update": -1}, "update = -1: an agent is kept every"),
    ],
)
def test_what_cannot_be_is_refused(fields, words) -> None:
    with pytest.raises(UsageError, match=f"^{words}"):
        SocialNeurons(small(), **fields)
