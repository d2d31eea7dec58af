"""The lab: work is done once, in order, by one process, and survives being stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etude.core.errors import BusyError, DamagedError, EtudeError, UsageError
from etude.core.lab import Lab
from etude.core.locks import held
from etude.core.recipe import Estimate, Recipe
from etude.core.run import Draft, Run
from etude.core.shelf import Shelf, differences, recipe_from_file

HERE = Path(__file__)


@dataclass(frozen=True)
class Leaf(Recipe, kind="toy-leaf", does=f"{__name__}:grow"):
    """A number, slowly."""

    value: int = 1
    seconds: float = 0.0
    fail: bool = False
    bytes_needed: int = 0

    def estimate(self) -> Estimate:
        return Estimate(disk_bytes=self.bytes_needed)


@dataclass(frozen=True)
class Sum(Recipe, kind="toy-sum", does=f"{__name__}:add"):
    """The sum of leaves."""

    of: tuple[Leaf, ...] = ()


@dataclass(frozen=True)
class Climb(Recipe, kind="toy-climb", does=f"{__name__}:top"):
    """Asks for the next leaf only when it has seen the last: a plan that depends on answers."""

    until: int = 4

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        leaf = Leaf(1)
        asked = [leaf]
        while leaf in done and done[leaf].result["value"] < self.until:
            leaf = Leaf(done[leaf].result["value"] + 1)
            asked.append(leaf)
        return asked


def grow(recipe: Leaf, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    if recipe.fail:
        raise EtudeError("planted failure")
    done = len(run.rows())
    ticks = round(recipe.seconds / 0.05) or 1
    for tick in range(done, ticks):
        time.sleep(recipe.seconds / ticks)
        run.log(tick=tick, process=os.getpid(), timing={"now": time.time()})
        run.progress(tick + 1, ticks)
    run.save("value.safetensors", {"value": np.array([recipe.value])})
    return {"value": recipe.value, "timing": {"process": os.getpid()}}


def add(recipe: Sum, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    return {"value": sum(inputs[leaf].result["value"] for leaf in recipe.of)}


def top(recipe: Climb, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    return {"values": [run.result["value"] for run in inputs.values()]}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "runs", quiet=True)


def test_work_is_done_once_and_inputs_come_first(lab: Lab) -> None:
    total = Sum((Leaf(2), Leaf(3)))
    first = lab.run(total)
    assert first.result["value"] == 5
    stamp = (first.path / "files.json").stat().st_mtime_ns
    assert lab.run(total).path == first.path
    assert (first.path / "files.json").stat().st_mtime_ns == stamp
    assert set(first.inputs) == {Leaf(2).id, Leaf(3).id}
    assert first.recipe == total
    assert recipe_from_file(first.path / "recipe.json") == total
    assert not list(lab.root.glob("*.partial"))


def test_a_plan_may_depend_on_answers(lab: Lab) -> None:
    assert lab.run(Climb(until=4)).result["values"] == [1, 2, 3, 4]
    assert Lab(lab.root, quiet=True).run(Climb(until=6)).result["values"] == [1, 2, 3, 4, 5, 6]


def test_the_pool_gives_what_one_process_gives(tmp_path: Path) -> None:
    recipe = Sum(tuple(Leaf(n, seconds=0.05) for n in range(5)))
    here = Lab(tmp_path / "a", quiet=True).run(recipe)
    pool = Lab(tmp_path / "b", jobs=2, threads=1, quiet=True)
    there = pool.run(recipe)
    assert differences(here, there) == {}
    workers = {Run(pool.root / leaf.id).result["timing"]["process"] for leaf in recipe.of}
    assert os.getpid() not in workers


def test_differences_names_the_place(lab: Lab) -> None:
    found = differences(lab.run(Leaf(1)), lab.run(Leaf(2)))
    assert found["result.value"] == (1, 2)
    assert found["recipe.value"] == (1, 2)
    assert "files.value.safetensors" in found
    assert not any("timing" in where for where in found)


def test_a_failure_is_told_and_leaves_nothing_complete(lab: Lab) -> None:
    with pytest.raises(EtudeError, match="planted failure"):
        lab.run(Sum((Leaf(1), Leaf(2, fail=True))))
    assert lab.lookup(Leaf(1)) is not None
    assert lab.lookup(Leaf(2, fail=True)) is None


def test_no_room_is_known_before_starting(lab: Lab) -> None:
    with pytest.raises(EtudeError, match="GB free"):
        lab.run(Leaf(1, bytes_needed=10**18))
    assert not (lab.root / f"{Leaf(1, bytes_needed=10**18).id}.partial").exists()


def child(root: Path, recipe: str, jobs: int = 1) -> subprocess.Popen[bytes]:
    """Run a recipe of this file in a process of its own."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from test_lab import *\n"
        "if __name__ == '__main__': Lab(sys.argv[2], jobs=int(sys.argv[4]), quiet=True).run(eval(sys.argv[3]))"
    )
    return subprocess.Popen([sys.executable, "-c", code, str(HERE.parent), str(root), recipe, str(jobs)])


def wait_for(condition: Any, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def test_a_killed_run_is_no_run_and_is_gone_on_with(lab: Lab) -> None:
    leaf = Leaf(7, seconds=1.5)
    record = lab.root / f"{leaf.id}.partial" / "record.jsonl"
    process = child(lab.root, "Leaf(7, seconds=1.5)")
    wait_for(lambda: record.exists() and len(record.read_text().splitlines()) >= 5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert lab.lookup(leaf) is None
    before = len(record.read_text().splitlines())
    run = lab.run(leaf)
    processes = [row["process"] for row in run.record]
    assert [row["tick"] for row in run.record] == list(range(30))
    assert processes.count(process.pid) >= before - 1
    assert os.getpid() in processes


def test_workers_die_with_a_killed_parent(lab: Lab) -> None:
    leaf = Leaf(8, seconds=60)
    record = lab.root / f"{leaf.id}.partial" / "record.jsonl"
    process = child(lab.root, "Sum((Leaf(8, seconds=60),))", jobs=2)
    wait_for(lambda: record.exists() and record.read_text().count("\n") >= 1)
    worker = json.loads(record.read_text().splitlines()[0])["process"]
    assert worker != process.pid
    process.send_signal(signal.SIGKILL)
    process.wait()

    def gone() -> bool:
        try:
            return Path(f"/proc/{worker}/stat").read_text().split()[2] == "Z"
        except OSError:
            return True

    if Path("/proc/self/stat").exists():
        wait_for(gone, 10)
    with held(lab.root, leaf.id, wait=False):
        pass


def test_two_processes_share_one_making(lab: Lab) -> None:
    leaf = Leaf(9, seconds=1.0)
    process = child(lab.root, "Leaf(9, seconds=1.0)")
    wait_for(lambda: (lab.root / f"{leaf.id}.partial" / "record.jsonl").exists())
    with pytest.raises(BusyError, match=f"process {process.pid} on "), held(lab.root, leaf.id, wait=False):
        pass
    run = lab.run(leaf)
    assert process.wait() == 0
    assert {row["process"] for row in run.record} == {process.pid}


def test_a_kill_just_before_the_last_rename_costs_nothing(lab: Lab) -> None:
    run = lab.run(Leaf(6))
    stamp = (run.path / "result.json").stat().st_mtime_ns
    partial = run.path.with_name(f"{run.id}.partial")
    run.path.rename(partial)
    (partial / "scratch").mkdir()
    again = lab.run(Leaf(6))
    assert (again.path / "result.json").stat().st_mtime_ns == stamp
    assert not (again.path / "scratch").exists()


def test_a_torn_write_is_no_file_of_the_run(lab: Lab) -> None:
    draft = Draft(lab.root / f"{Leaf(5).id}.partial", Leaf(5))
    (draft.path / ".value.safetensors.123.tmp").write_bytes(b"half")
    assert all(not name.endswith(".tmp") for name in lab.run(Leaf(5)).files)


def test_a_draft_of_another_recipe_is_not_gone_on_with(lab: Lab) -> None:
    leaf = Leaf(3)
    stale = lab.root / f"{leaf.id}.partial"
    stale.mkdir(parents=True)
    (stale / "recipe.json").write_text("{}")
    (stale / "left-over.txt").write_text("from something else")
    assert "left-over.txt" not in lab.run(leaf).files


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-1]), "cut short"),
        (lambda p: p.write_bytes(bytes([p.read_bytes()[0] ^ 1]) + p.read_bytes()[1:]), "changed"),
        (lambda p: p.unlink(), "missing"),
    ],
)
def test_damage_is_noticed(lab: Lab, harm: Any, message: str) -> None:
    run = lab.run(Leaf(1))
    harm(run.path / "value.safetensors")
    with pytest.raises(DamagedError, match=message):
        Run(run.path).tensors("value.safetensors")


def test_another_format_says_so(lab: Lab) -> None:
    run = lab.run(Leaf(1))
    (run.path / "files.json").write_text('{"format": 99, "files": {}}')
    with pytest.raises(DamagedError, match="format 99"):
        Run(run.path)
    other = lab.run(Leaf(2))
    assert [run.id for run in Shelf(lab.root)] == [other.id]
    (problem,) = Shelf(lab.root).unreadable()
    assert "format 99" in str(problem)


def test_shelf_finds_names_and_removes(lab: Lab) -> None:
    total, other = lab.run(Sum((Leaf(1), Leaf(2)))), lab.run(Leaf(3))
    shelf = Shelf(lab.root)
    assert {run.id for run in shelf} == {total.id, other.id, Leaf(1).id, Leaf(2).id}
    assert shelf.find(total.id[:12]).id == total.id
    shelf.name(other, "mine")
    assert shelf.find("mine").id == other.id
    with pytest.raises(UsageError, match="begins 3 runs"):
        shelf.find("toy-leaf")
    with pytest.raises(UsageError, match="did you mean"):
        shelf.find(total.id[:-1] + "x")
    with pytest.raises(EtudeError, match="--with-users"):
        shelf.remove(Run(lab.root / Leaf(1).id))
    assert set(shelf.remove(Run(lab.root / Leaf(1).id), with_users=True)) == {Leaf(1).id, total.id}
    assert {run.id for run in shelf} == {other.id, Leaf(2).id}
    shelf.remove(other)
    assert shelf.names() == {}


def test_moving_checks_what_arrived(lab: Lab, tmp_path: Path) -> None:
    run = lab.run(Leaf(4))
    Shelf(lab.root).name(run, "mine")
    moved = Shelf(lab.root).move(run, tmp_path / "elsewhere")
    assert Shelf(tmp_path / "elsewhere").find("mine").id == run.id
    assert Shelf(lab.root).names() == {}
    assert moved.result["value"] == 4
    assert not run.path.exists()
    again = lab.run(Leaf(4))
    with pytest.raises(UsageError, match="exists already"):
        Shelf(lab.root).move(again, tmp_path / "elsewhere")


def test_unfinished_work_can_be_thrown_away(lab: Lab) -> None:
    (lab.root / "toy-leaf-000000000000.partial").mkdir(parents=True)
    assert Shelf(lab.root).remove_unfinished() == ["toy-leaf-000000000000"]
    assert Shelf(lab.root).unfinished() == []
