"""What is said of agents that were raised: planted scores, phases and curves, and how firm a finding is called."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from scipy.stats import ttest_ind

from etude.core.lab import Lab
from etude.core.run import Run
from etude.evals.statistics import mean
from etude.studies.ladder import Ladder
from etude.studies.sections.climb_numbers import RECENT, first_at
from etude.studies.sections.medal_numbers import _ablation, _firm
from etude.studies.sections.raised_numbers import Raised, differs, phase, phases


@dataclass
class Planted:
    """A run that holds what a test says."""

    result: dict[str, Any] = field(default_factory=dict)
    recipe_data: dict[str, Any] = field(default_factory=dict)
    record: list[dict[str, Any]] = field(default_factory=list)
    id: str = "transmission-000000000000"


def row(full: float, solo: float, recalled: float = 0.0, forgot: float = 0.0, step: int = 0) -> dict[str, Any]:
    return {"of_expert": 20.0, "full": full, "solo": solo, "recalled": recalled, "forgot": forgot, "step": step}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (row(9.9, 0.0), "before"),
        (row(10.0, 0.0), "following"),
        (row(15.0, 0.0, recalled=5.0, forgot=4.5), "following"),  # what it keeps is less than a twentieth
        (row(15.0, 0.0, recalled=-0.1, forgot=-5.0), "following"),  # it loses less, and gains nothing
        (row(15.0, 0.0, recalled=5.0, forgot=0.0), "remembering"),
        (row(15.0, 10.1, recalled=5.0, forgot=0.0), "alone"),  # a quarter is owed to the expert, and half is not
        (row(12.0, 7.5), "alone"),  # it follows by score, but owes too little to the expert's being there
        (row(2.0, 11.0), "alone"),
    ],
)
def test_the_phase_of_an_evaluation(found: dict[str, Any], expected: str) -> None:
    assert phase(found) == expected


def test_phases_are_stretches_in_environment_steps() -> None:
    rows = [row(0, 0, step=0), {"step": 5, "loss": 1.0}, row(1, 0, step=10), row(15, 0, step=20), row(1, 0, step=30)]
    run = Planted(recipe_data={"worlds": 4, "setting": {"steps": 50}}, record=rows)
    assert phases(cast(Run, run)) == [
        {"phase": "before", "from": 0, "to": 2000},
        {"phase": "following", "from": 4000, "to": 4000},
        {"phase": "before", "from": 6000, "to": 6000},
    ]


def test_a_difference_is_welchs() -> None:
    draw = np.random.default_rng(0)
    a, b = draw.normal(1, 1, 3), draw.normal(0, 3, 5)
    found, known = differs(a, b), ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((known.low, known.high))
    assert differs([2.0], [1.0, 5.0]).excludes_zero is False  # one training tells no spread


@pytest.mark.parametrize(
    ("by_seed", "expected"),
    [([3.0, 3.1, 2.9], "clear"), ([3.0, 0.2, 9.0], "uncertain"), ([3.0, -2.5, -1.0], "none")],
)
def test_how_firm_a_mean_stands_goes_by_its_own_seeds(by_seed: list[float], expected: str) -> None:
    assert _firm(mean(np.array(by_seed)), np.array(by_seed)) == expected


def test_an_ablation_is_one_finding_for_each_claim() -> None:
    changes = {"full": differs([5, 5.1, 4.9], [1, 1.1, 0.9]), "beyond_solo": differs([3, -2, 1], [1, 2, -3])}
    told = {key: change.to_json() for key, change in changes.items()}
    following, later = _ablation({"goals": 4, "agent": "without memory", "runs": ["transmission-0"], **told})
    assert (following.strength, later.strength) == ("clear", "uncertain")


def test_means_are_over_trainings() -> None:
    runs = [Planted({"full": {"mean": score}}, id=f"transmission-{score:012.0f}") for score in (1.0, 2.0, 6.0)]
    raised = Raised("an agent", 4, (), cast("tuple[Run, ...]", tuple(runs)))
    assert raised.over_seeds("full").mean == 3.0 and raised.over_seeds("full").n == 3
    assert raised.runs == tuple(run.id for run in runs)


def test_the_bar_is_reached_when_so_many_episodes_in_a_row_come_to_it() -> None:
    returns = np.array([0.0] * 25 + [10.0] * RECENT)
    ended = np.arange(1, len(returns) + 1) * 7
    assert first_at(returns, ended, 10.0) == 7 * (25 + RECENT)
    assert first_at(returns, ended, 5.0) == 7 * (25 + RECENT // 2)  # when half of the last ones were 10
    assert first_at(returns, ended, 10.1) is None
    assert first_at(returns[: RECENT - 1], ended[: RECENT - 1], 0.0) is None


def test_a_training_too_short_for_a_curve_still_has_its_page(tmp_path: Path) -> None:
    pytest.importorskip("gymnasium")
    short = Ladder(environments=("Acrobot-v1",), algorithms=("reinforce",), steps=8, seeds=1, episodes=2)
    run = Lab(tmp_path, threads=1, quiet=True).run(short)
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "Acrobot-v1" in page and "mean return" in page
