"""Several runs at once, stopped as a terminal stops them: every process at the keyboard gets the signal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from etude.core.lab import Lab
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run

if TYPE_CHECKING:
    from etude.train.checkpoint import State

HERE = Path(__file__)
STEPS = 20

CHILD = """
import sys; sys.path.insert(0, sys.argv[1]); from test_stopped import *
if __name__ == '__main__':
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are started deaf to it
    try:
        Lab(sys.argv[2], jobs=2, threads=1, quiet=True).run(eval(sys.argv[3]))
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}")
"""


@dataclass(frozen=True)
class Walk(Recipe, kind="toy-walk", does=f"{__name__}:walk"):
    """Takes steps in the loop, and writes a checkpoint only when it is stopped."""

    number: int = 0
    pause: float = 0.3  # long enough that a second signal, were there one, came in the same step


@dataclass(frozen=True)
class Doze(Recipe, kind="toy-doze", does=f"{__name__}:doze"):
    """Work that is in no loop."""

    number: int = 0


@dataclass(frozen=True)
class Both(Recipe, kind="toy-both", does=f"{__name__}:both"):
    """Two of either."""

    of: tuple[Walk | Doze, ...] = ()


class Walker:
    """Counts its steps."""

    def __init__(self, pause: float) -> None:
        self.pause, self.count = pause, 0

    def step(self, number: int) -> dict[str, float]:
        time.sleep(self.pause)
        self.count += 1
        return {"process": os.getpid(), "count": self.count}

    def state(self) -> State:
        import torch

        from etude.train.checkpoint import State

        return State({"nothing": torch.zeros(1)}, {"count": self.count})

    def load(self, state: State) -> None:
        self.count = state.values["count"]


def walk(recipe: Walk, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    from etude.train.loop import advance

    advance(Walker(recipe.pause), run, steps=STEPS, log_every=1, save_seconds=1e9)
    return {"count": STEPS}


def doze(recipe: Doze, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    run.log(process=os.getpid())
    time.sleep(120)
    return {}


def both(recipe: Both, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    return {"counts": [inputs[part].result.get("count") for part in recipe.of]}


def begin(root: Path, recipe: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, str(HERE.parent), str(root), recipe]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)


def rows(root: Path, recipe: Recipe) -> list[dict[str, Any]]:
    path = root / f"{recipe.id}.partial" / "record.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


@pytest.mark.kill
def test_ctrl_c_with_two_jobs_leaves_checkpoints_that_are_gone_on_from(tmp_path: Path) -> None:
    walks = (Walk(1), Walk(2))
    process = begin(tmp_path, "Both((Walk(1), Walk(2)))")
    wait_for(lambda: all(len(rows(tmp_path, each)) >= 3 for each in walks))
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert said == "Interrupted: stopped; run the same command again to go on from here\n", "one line, no traceback"
    for each in walks:
        assert list((tmp_path / f"{each.id}.partial" / "scratch").glob("checkpoint-*.safetensors"))
    first = {each.number: {row["process"] for row in rows(tmp_path, each) if "process" in row} for each in walks}
    assert Lab(tmp_path, jobs=2, threads=1, quiet=True).run(Both(walks)).result["counts"] == [STEPS, STEPS]
    for each in walks:
        record = [row for row in Run(tmp_path / each.id).record if "process" in row]
        assert [row["count"] for row in record] == list(range(1, STEPS + 1))
        assert first[each.number] < {row["process"] for row in record}


@pytest.mark.kill
def test_ctrl_c_ends_work_that_is_in_no_loop(tmp_path: Path) -> None:
    process = begin(tmp_path, "Both((Doze(1), Doze(2)))")
    wait_for(lambda: all(rows(tmp_path, Doze(number)) for number in (1, 2)))
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert time.monotonic() - began < 10
    assert said.startswith("Interrupted: stopped") and said.count("\n") == 1


@pytest.mark.kill
def test_ctrl_c_while_a_worker_is_idle_or_starting(tmp_path: Path) -> None:
    process = begin(tmp_path, "Both((Walk(1, 0.0), Doze(2)))")
    wait_for(lambda: (tmp_path / Walk(1, 0.0).id).exists() and bool(rows(tmp_path, Doze(2))))
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert said.startswith("Interrupted: stopped") and said.count("\n") == 1
