"""A sweep as a person types it: what is asked for, and what is answered to a slip of the pen."""

from __future__ import annotations

import shlex

import pytest

from etude.cli.spelling import command_for
from etude.compress.recipes import Compress
from etude.studies.search.random import Random
from etude.studies.sweep import Sweep
from etude.train.recipes import Train

AXES = ("schedule.peak=1e-4..1e-2:log:5", "batch=16,32")


def test_the_words_make_the_sweep(etude):
    words = ("--of.steps", "300", "--axes", *AXES, "--seeds", "2")
    answer = etude("plan", "sweep", *words, "--json")
    assert answer.code == 0
    assert answer.json["id"] == Sweep(AXES, Train(steps=300), seeds=2).resolve().id
    kinds = [step["kind"] for step in answer.json["steps"]]
    assert (kinds.count("train"), kinds.count("tokens"), kinds.count("sweep")) == (5 * 2 * 2, 1, 1)


@pytest.mark.parametrize(
    "study",
    [
        Sweep(AXES),
        Sweep(("model.width/model.heads=64/2,128/4", "schedule.peak=1e-4..1e-2:log"), search=Random(n=3)),
        Sweep(("method.dimensions=1,2",), of=Compress(Train(), "L0.attn.out"), seeds=1, metric="harm.increase"),
        Sweep.preset("seed"),
    ],
    ids=["grid", "random", "compress", "preset"],
)
def test_its_command_means_it_again(etude, study):
    words = shlex.split(command_for(study))
    assert words[:3] == ["etude", "run", "sweep"]
    assert etude("plan", *words[2:], "--json").json["id"] == study.resolve().id


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "sweep needs --axes: what is varied, one text an axis"),
        (["--axes", "schedule.peek=1,2"], "unknown field 'schedule.peek' of train: did you mean 'schedule.peak'?"),
        (["--axes", "peak=1,2"], "unknown field 'peak' of train: did you mean 'schedule.peak'?"),
        (["--axes", "batch=16,many"], "batch 'many' is not a whole number"),
        (["--axes", "batch=0,16"], "the point batch = 0 cannot be: batch = 0 is too small"),
        (["--axes", "batch=1..2", "--search", "gird"], "unknown search 'gird': did you mean 'grid'?"),
        (["--axes", "batch=16", "--search.n", "3"], "unknown flag --search.n: the search chosen is grid"),
    ],
)
def test_a_slip_is_answered_before_anything_runs(etude, words, said, here):
    answer = etude("run", "sweep", *words)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err and answer.err.count("\n") == 1
    assert not (here / "runs").exists()


def test_words_are_read_the_same_where_pydantic_is_loaded(etude):
    """Where something else has imported pydantic, as MLflow does, cyclopts holds values against their annotations."""
    pytest.importorskip("pydantic", reason="pydantic is not installed")
    answer = etude("plan", "sweep", "--of.steps", "300", "--of.model.tied", "--axes", *AXES, "--seeds", "2", "--json")
    assert answer.code == 0, answer.err
    assert len([step for step in answer.json["steps"] if step["kind"] == "train"]) == 20
