"""The sweep on a cheap recipe whose result is a known function: what it plans, finds, warns of and says."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pytest
from scipy import stats

from etude.core.done import Done
from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.core.spec import Spec, cosmetic
from etude.studies.search.grid import Grid
from etude.studies.search.optuna import Optuna
from etude.studies.search.random import Random
from etude.studies.sections.sweep_numbers import behind, effects, is_apart, tried
from etude.studies.sweep import Sweep


@dataclass(frozen=True)
class Oven(Spec):
    """Where it is baked.

    Attributes:
        heat: in degrees.
        rack: which.
    """

    heat: float = 100.0
    rack: Literal["top", "middle"] = "top"

    def check(self) -> None:
        if self.heat < 0:
            raise UsageError(f"heat = {self.heat} is too cold: it is 0 or more")


@dataclass(frozen=True)
class Bake(Recipe, kind="toy-bake", does=f"{__name__}:bake"):
    """Bake a cake whose badness is known: least at heat 200 and 4 eggs, the rack makes no difference.

    Attributes:
        oven: where.
        eggs: how many.
        noise: how much the seed does.
        seed: of the noise.
        pan: what changes nothing.
    """

    oven: Oven = field(default_factory=Oven)
    eggs: int = 2
    noise: float = 0.0
    seed: int = 0
    pan: str = cosmetic("round")

    def check(self) -> None:
        if self.eggs > 8:
            raise UsageError(f"eggs = {self.eggs} are too many")


def badness(recipe: Bake) -> float:
    return 10 * math.log(recipe.oven.heat / 200) ** 2 + (recipe.eggs - 4) ** 2


def bake(recipe: Bake, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    luck = float(np.random.default_rng(recipe.seed).normal())  # a seed moves every point alike
    own = float(np.random.default_rng([recipe.seed, recipe.eggs, int(recipe.oven.heat)]).normal())
    bad = badness(recipe) + recipe.noise * (luck + 0.05 * own)
    for step in range(3):
        run.log(step=step, loss=bad + 2 - step)
    return {"badness": {"mean": bad, "low": bad - 1, "high": bad + 1}, "taste": {"sweet": -bad}, "good": bad < 1}


HEAT, EGGS = "oven.heat=100,200,400", "eggs=2,4,6"


def sweep(*axes: str, **more: Any) -> Sweep:
    return Sweep(**{"axes": axes or (HEAT, EGGS), "of": Bake(), "metric": "badness", "seeds": 2, **more})


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "runs", threads=1, quiet=True)


def done_of(lab: Lab, study: Sweep) -> Done:
    done = Done()
    for name in lab.run(study).inputs:
        found = Run(lab.root / name)
        done.add(found.recipe, found)
    return done


def said(run: Run) -> list[str]:
    return [finding["text"] for finding in run.result["findings"]]


def test_a_planted_optimum_is_found_and_stands_apart(lab):
    study = sweep(of=Bake(noise=0.1), seeds=4)
    run = lab.run(study)
    assert len(run.inputs) == 3 * 3 * 4
    best = run.result["best"]
    assert best["point"] == "oven.heat = 200, eggs = 4" and len(best["runs"]) == 4
    assert [row["apart"] for row in run.result["points"]] == [False] + [True] * 8
    assert run.result["edges"] == []
    first = run.result["findings"][0]
    assert first["strength"] == "clear" and "It stands apart from every other point." in first["text"]
    page = run.file("report.html").read_text(encoding="utf-8")
    assert all(f'id="run-{name}"' in page for name in run.inputs)


def test_scores_and_paired_differences_are_scipy_s(lab):
    study = sweep(of=Bake(noise=3.0), seeds=5)
    done = done_of(lab, study)
    points = tried(study, done)
    for each in points:
        scores = [done[trial].result["badness"]["mean"] for trial in study.trials(each.point)]
        low, high = stats.t.interval(0.95, 4, loc=np.mean(scores), scale=stats.sem(scores))
        assert (each.estimate.low, each.estimate.high) == pytest.approx((low, high))
    one, other = points[0], points[1]
    paired = stats.ttest_rel(other.scores, one.scores).confidence_interval()
    difference = behind(other, one)
    assert (difference.low, difference.high) == pytest.approx((paired.low, paired.high))
    # The seed moves all points alike: paired they are told apart, by their own intervals they would not be.
    assert is_apart(study, difference)
    assert one.estimate.high > other.estimate.low


def test_the_effects_are_those_of_the_function(lab):
    study = sweep()
    points = tried(study, done_of(lab, study))
    found = {effect.axis.name: effect for effect in effects(study, points)}
    heats, eggs = (100, 200, 400), (2, 4, 6)
    table = np.array([[badness(Bake(Oven(float(h)), e)) for e in eggs] for h in heats])
    assert [level.estimate.mean for level in found["oven.heat"].levels] == pytest.approx(table.mean(1))
    assert [level.estimate.mean for level in found["eggs"].levels] == pytest.approx(table.mean(0))
    assert found["oven.heat"].share == pytest.approx(table.mean(1).var() / table.var())
    assert sum(effect.share for effect in found.values()) == pytest.approx(1)  # the function is a sum
    assert [level.words for level in found["oven.heat"].levels] == ["100", "200", "400"]


def test_a_best_point_on_the_edge_is_warned_of(lab):
    run = lab.run(sweep("oven.heat=25..100:log:3", EGGS))
    assert run.result["edges"] == [{"axis": "oven.heat", "edge": "highest", "setting": "100"}]
    assert any("oven.heat = 100 is the highest that was tried" in text and "above it" in text for text in said(run))


def test_an_edge_that_the_recipe_cannot_pass_is_none(lab):
    worse = {"metric": "taste.sweet", "better": "lower", "seeds": 1}
    edges = lab.run(sweep("eggs=6,7,8", **worse)).result["edges"]
    assert edges == []  # 9 are refused
    assert lab.run(sweep("eggs=5,6,7", **worse)).result["edges"][0]["edge"] == "highest"
    assert lab.run(sweep("eggs=2,3", seeds=1)).result["edges"] == []  # of two, one always is the last


def test_ties_are_said_and_nothing_stands_apart(lab):
    run = lab.run(sweep("oven.rack=top,middle", "eggs=4,5"))
    assert [row["apart"] for row in run.result["points"]] == [False, False, True, True]
    assert run.result["findings"][0]["strength"] == "uncertain"
    assert "1 point cannot be told apart from it" in said(run)[0]


def test_one_seed_says_that_it_says_nothing_of_seeds(lab):
    run = lab.run(sweep(seeds=1))
    assert run.result["findings"][0]["strength"] == "uncertain"
    assert "from one seed" in said(run)[0] and "no two points can be told apart" in said(run)[0]
    assert not any(row["apart"] for row in run.result["points"])
    page = run.file("report.md").read_text(encoding="utf-8")
    assert "there are no intervals" in page


def test_higher_can_be_better(lab):
    low, high = (
        lab.run(sweep(of=Bake(noise=0.1))),
        lab.run(sweep(of=Bake(noise=0.1), metric="taste.sweet", better="higher")),
    )
    assert low.inputs == high.inputs  # another score makes nothing again
    assert [row["point"] for row in low.result["points"]] == [row["point"] for row in high.result["points"]]
    assert [row["apart"] for row in low.result["points"]] == [row["apart"] for row in high.result["points"]]


def test_one_point_alone_makes_a_page(lab):
    run = lab.run(sweep("eggs=4", seeds=1))
    assert "nothing beside it to compare" in said(run)[0]


def test_fields_that_go_together_and_members_are_axes(lab):
    study = sweep("oven.heat/eggs=100/2,200/4", "oven.rack=top,middle", seeds=1)
    run = lab.run(study)
    assert run.result["best"]["point"].startswith("oven.heat = 200, eggs = 4, oven.rack = ")
    assert [cast(Bake, trial).eggs for trial in study.plan({})] == [2, 2, 4, 4]


@pytest.mark.parametrize("search", [Grid(), Random(n=4), pytest.param(Optuna(n=4, startup=2), id="optuna")])
def test_what_is_done_is_asked_again_and_no_more_is_done(lab, search):
    if isinstance(search, Optuna):
        pytest.importorskip("optuna", reason="the extra sweep is not installed")
    study = sweep("oven.heat=50..800:log:3", "eggs=3..5", search=search)
    done = Done()
    order: list[list[Recipe]] = []
    while True:
        asked = list(study.plan(done))
        assert len(set(asked)) == len(asked)
        missing = [recipe for recipe in asked if recipe not in done]
        if not missing:
            break
        order.append(missing)
        done.add(missing[0], lab.run(missing[0]))  # and killed: the study is asked anew, with what is done
    run = lab.run(study)
    assert {recipe.id for recipe in asked} == set(run.inputs)
    assert list(study.plan(done)) == asked


def test_a_sweep_that_stopped_goes_on_at_the_same_point(lab, tmp_path, monkeypatch):
    pytest.importorskip("optuna", reason="the extra sweep is not installed")
    study = sweep("oven.heat=20..2000:log", "eggs=0..8", search=Optuna(n=12, startup=4), seeds=1)
    whole = Lab(tmp_path / "whole", threads=1, quiet=True).run(study)
    partly = list(study.plan({}))
    done = Done()
    for _ in range(7):
        nxt = next(recipe for recipe in study.plan(done) if recipe not in done)
        done.add(nxt, lab.run(nxt))
        partly.append(nxt)
    assert {recipe.id for recipe in partly} < set(whole.inputs)
    assert lab.run(study).result["points"] == whole.result["points"]


def test_optuna_comes_nearer_than_chance(lab):
    pytest.importorskip("optuna", reason="the extra sweep is not installed")
    axes = ("oven.heat=2..20000:log", "eggs=0..8")
    found = lab.run(sweep(*axes, search=Optuna(n=40), seeds=1)).result["best"]["score"]["mean"]
    drawn = [lab.run(sweep(*axes, search=Random(n=8, seed=s), seeds=1)).result["best"]["score"]["mean"] for s in (0, 1)]
    assert found < min(drawn) and found < 2


def test_optuna_is_asked_for_several_at_once(lab):
    pytest.importorskip("optuna", reason="the extra sweep is not installed")
    study = sweep("oven.heat=2..20000:log", search=Optuna(n=6, startup=2, together=3), seeds=2)
    assert len(list(study.plan({}))) == 6
    assert len(lab.run(study).inputs) == 12


def test_optuna_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    study = sweep("oven.heat=2..20000:log", search=Optuna())  # it can be read back, and asked what it was
    with pytest.raises(UsageError, match=r"pip install 'etude\[sweep\]'"):
        study.plan({})


def test_a_wrong_metric_is_said_with_those_there_are_and_costs_nothing(lab):
    with pytest.raises(UsageError, match=r"no number 'badnes' in its result: did you mean 'badness'\? There are: bad"):
        lab.run(sweep(EGGS, metric="badnes", seeds=1))
    made = {path.name for path in lab.root.glob("toy-bake-*")}
    lab.run(sweep(EGGS, seeds=1))
    assert {path.name for path in lab.root.glob("toy-bake-*")} == made


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"seeds": 0}, "seeds = 0 are too few"),
        ({"metric": ""}, "metric is empty"),
        ({"axes": ("seed=1,2",)}, "seed is an axis and takes the seeds too"),
        ({"seed_field": "sed"}, "unknown field 'sed' of toy-bake: did you mean 'seed'"),
        ({"seed_field": "noise"}, "noise of toy-bake takes no seed"),
        ({"axes": ("eggs=8,9",)}, "the point eggs = 9 cannot be: eggs = 9 are too many"),
        ({"axes": ("oven.heat=-5..5",), "search": Random(n=2)}, "cannot be: heat = -"),
        ({"axes": ("oven.heat=-5..5",), "search": Optuna()}, "the point oven.heat = -5 cannot be"),
        ({"axes": ("oven.heat=1..5",)}, "a grid needs to know how many values of oven.heat"),
        ({"axes": ("eggs=1..2",), "search": Random(n=3)}, "n = 3 points are wanted and the axes have 2"),
        ({"axes": 3}, "sweep.axes = 3 is not a list"),
    ],
)
def test_what_cannot_be_is_said_before_anything_runs(more, words):
    with pytest.raises(UsageError, match=words):
        sweep(**more)


def test_a_sweep_reads_back_and_axes_are_one_however_they_are_cut():
    study = sweep("oven.heat = 50, 100", "eggs=2", "4")
    assert study.axes == ("oven.heat=50,100", "eggs=2,4")
    assert study == sweep("oven.heat=50", "100", "eggs=2,4")
    assert Recipe.from_json(json.loads(json.dumps(study.to_json()))) == study
    assert replace(study, seeds=3).resolve().id != study.resolve().id
