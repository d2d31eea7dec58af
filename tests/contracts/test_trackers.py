"""What every tracker owes, asked of each file in the family's folder: real files, read back with its own reader."""

from __future__ import annotations

from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pytest

from etude.core.errors import UsageError
from etude.core.family import Family
from etude.report.trackers.base import Tracker
from etude.report.trackers.tensorboard import Tensorboard

FAMILY = Family("report/trackers")
RECIPE: dict[str, Any] = {"kind": "train", "version": 1, "seed": 3, "model": {"width": 8, "name": "x" * 900}}

pytestmark = pytest.mark.filterwarnings("ignore")  # what others' libraries warn of among themselves


@pytest.fixture(params=FAMILY.names())
def kind(request: pytest.FixtureRequest) -> type[Tracker]:
    return cast(type[Tracker], FAMILY.member(request.param))


@pytest.fixture
def tracker(kind: type[Tracker], tmp_path: Path) -> Tracker:
    pytest.importorskip(kind.needs, reason=f"the extra {kind.extra} is not installed")
    found = kind(str(tmp_path / "out"))
    found.require()
    return found


def test_the_family_has_its_members():
    assert {"tensorboard", "mlflow"} <= set(FAMILY.names())
    assert FAMILY.base() is Tracker and FAMILY.noun == "tracker"


def test_it_says_what_it_is_and_what_it_needs(kind, monkeypatch):
    assert kind.__doc__ and kind.needs and kind.extra
    assert {field.name for field in fields(kind)} == {"place"}
    with pytest.raises(UsageError, match=f"the tracker {kind.name} has no place: write {kind.name}:"):
        kind("")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=rf"needs what is not installed: pip install 'etude\[{kind.extra}\]'"):
        kind("x").require()


def test_a_home_folder_is_one(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))  # no shell opens the ~ that stands after a colon
    assert Tensorboard("~/out").open("train-1", RECIPE).folder == tmp_path / "out" / "train-1"  # type: ignore[attr-defined]


def test_what_is_written_is_held_and_found_again(tracker):
    sink = tracker.open("train-1", RECIPE)
    assert sink.held() == {}
    sink.write(0, {"loss": 2.5, "timing/per_second": 100.0})
    sink.write(10, {"loss": 1.5})
    sink.close(done=False)
    again = tracker.open("train-1", RECIPE)
    assert again.held() == {0: {"loss": 2.5, "timing/per_second": 100.0}, 10: {"loss": 1.5}}
    again.write(20, {"loss": 0.5})
    again.close(done=True)
    held = tracker.open("train-1", RECIPE).held()
    assert [held[step]["loss"] for step in (0, 10, 20)] == [2.5, 1.5, 0.5]


def test_runs_stand_apart(tracker):
    for n in (1, 2):
        sink = tracker.open(f"train-{n}", RECIPE)
        sink.write(n, {"loss": float(n)})
        sink.close(done=True)
    assert tracker.open("train-1", RECIPE).held() == {1: {"loss": 1.0}}
    assert tracker.open("train-2", RECIPE).held() == {2: {"loss": 2.0}}


def test_after_a_rewind_the_new_values_count(tracker):
    sink = tracker.open("train-1", RECIPE)
    for step in (0, 10, 20):
        sink.write(step, {"loss": 1.0})
    sink.rewind(10)
    for step in (10, 20, 30):
        sink.write(step, {"loss": 2.0})
    sink.close(done=True)
    held = tracker.open("train-1", RECIPE).held()
    assert {step: values["loss"] for step, values in held.items()} == {0: 1.0, 10: 2.0, 20: 2.0, 30: 2.0}


def test_tensorboard_shows_the_recipe_and_one_event_a_point(tmp_path):
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    EventAccumulator = import_module("tensorboard.backend.event_processing.event_accumulator").EventAccumulator

    from etude.report.trackers.tensorboard import Tensorboard

    for step in range(3):  # three times opened, three files
        sink = Tensorboard(str(tmp_path)).open("train-1", RECIPE)
        sink.write(step, {"loss": 1 / 3})
        sink.close(done=step == 2)
    events = EventAccumulator(str(tmp_path / "train-1"), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        (step, pytest.approx(1 / 3)) for step in range(3)
    ]
    (shown,) = events.Tensors("recipe")
    assert b'"seed": 3' in shown.tensor_proto.string_val[0]


def test_mlflow_has_parameters_names_and_a_state(tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    from etude.report.trackers.mlflow import Mlflow

    sink = Mlflow(str(tmp_path)).open("train-1", RECIPE)
    sink.write(3, {"loss": 1 / 3})

    def found() -> Any:
        client = mlflow.MlflowClient(tracking_uri=str(tmp_path))
        (run,) = client.search_runs([client.get_experiment_by_name("etude").experiment_id])
        return run

    assert found().info.status == "RUNNING"
    sink.close(done=False)
    assert found().info.status == "KILLED"
    Mlflow(str(tmp_path)).open("train-1", RECIPE).close(done=True)
    run = found()
    assert (run.info.status, run.info.run_name, run.data.tags["etude.run"]) == ("FINISHED", "train-1", "train-1")
    assert run.data.params["seed"] == "3" and run.data.params["model.width"] == "8"
    assert len(run.data.params["model.name"]) == 500
    assert run.data.metrics == {"loss": 1 / 3}
