"""A record is read while it is written, dropped from, written again and renamed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from etude.core.follow import Follower
from etude.core.lab import Lab
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run


@dataclass(frozen=True)
class Log(Recipe, kind="toy-log", does=f"{__name__}:log"):
    """Log some rows."""

    rows: int = 3


def log(recipe: Log, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    for step in range(recipe.rows):
        run.log(step=step, loss=1.0 / (step + 1))
    return {}


@pytest.fixture
def draft(tmp_path: Path) -> Draft:
    return Draft(tmp_path / f"{Log().id}.partial", Log())


def steps(follower: Follower) -> list[int]:
    return [row["step"] for _, row in follower.rows()]


def test_rows_come_once_and_in_order_also_when_the_draft_becomes_a_run(draft, tmp_path):
    follower = Follower(tmp_path, Log().id)
    assert follower.is_there and not follower.is_done and follower.rows() == []
    assert follower.recipe["kind"] == "toy-log"
    draft.log(step=0)
    draft.log(step=1)
    assert steps(follower) == [0, 1]
    assert steps(follower) == []
    draft.log(step=2)
    draft.finish({}, {})
    assert follower.is_done
    assert steps(follower) == [2]
    assert steps(follower) == []
    assert steps(Follower(tmp_path, Log().id)) == [0, 1, 2]


def test_a_line_that_is_being_written_is_waited_for(draft, tmp_path):
    follower, record = Follower(tmp_path, Log().id), draft.path / "record.jsonl"
    record.write_text('{"step": 0}\n{"st')
    assert steps(follower) == [0]
    with record.open("a") as file:
        file.write('ep": 1}\n')
    assert steps(follower) == [1]


def test_a_line_that_is_no_json_is_passed_over_and_keeps_its_place(draft, tmp_path):
    (draft.path / "record.jsonl").write_text('{"a": 1}\nnonsense\n{"a": 2}\n')
    assert Follower(tmp_path, Log().id).rows() == [(0, {"a": 1}), (2, {"a": 2})]


def test_after_rows_were_dropped_all_come_again(draft, tmp_path):
    follower = Follower(tmp_path, Log().id)
    for step in range(4):
        draft.log(step=step)
    assert steps(follower) == [0, 1, 2, 3]
    draft.keep_rows(lambda row: row["step"] <= 1)
    assert [place for place, _ in follower.rows()] == [0, 1]
    draft.log(step=2)
    assert follower.rows() == [(2, {"step": 2})]


def test_dropped_and_written_past_the_old_end_between_two_looks(draft, tmp_path):
    follower = Follower(tmp_path, Log().id)
    for step in range(3):
        draft.log(step=step, loss=0.5)
    assert len(follower.rows()) == 3
    record = draft.path / "record.jsonl"
    rows = [{"step": step, "loss": 0.25} for step in range(9)]
    record.write_text("".join(json.dumps(row) + "\n" for row in rows))  # in place: not even another file
    assert [row for _, row in follower.rows()] == rows


def test_a_run_without_a_record_and_one_that_is_not_there_have_no_rows(tmp_path):
    lab = Lab(tmp_path, threads=1, quiet=True)
    follower = Follower(tmp_path, Log(0).id)
    assert not follower.is_there and follower.rows() == []
    lab.run(Log(0))
    assert follower.is_done and follower.rows() == []


def test_what_runs_beside_the_work_sees_every_run_that_is_begun(tmp_path):
    seen: list[Any] = []

    class Beside:
        def __init__(self, begun: Any, say: Any) -> None:
            self.begun = begun

        def __enter__(self) -> None:
            assert self.begun.begun == []

        def __exit__(self, *_: object) -> None:
            seen.extend(self.begun.begun)

    lab = Lab(tmp_path, threads=1, quiet=True, beside=Beside)
    lab.run_all([Log(1), Log(2)])
    assert seen == [Log(1).id, Log(2).id]
    seen.clear()
    lab.run_all([Log(2), Log(3)])
    assert seen == [Log(3).id]  # what is done is not begun
