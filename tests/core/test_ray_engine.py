"""The same runs on a Ray cluster: what comes out, what is said, and what happens when a machine is lost."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.ray_cluster import PAUSE, Begin, Two, labs, sessions_folder, tell, told, two_nodes, wait_for

from etude.core.errors import EtudeError
from etude.core.lab import Lab
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.core.shelf import differences

if TYPE_CHECKING:
    from etude.train.checkpoint import State

pytestmark = pytest.mark.xdist_group("ray")  # one cluster at a time

STEPS = 30

with_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="no ray: pip install 'etude[ray]'")

LAB = """
import sys
from tests.core.test_ray_engine import *
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are started deaf to it
    address = sys.argv[3] or None
    try:
        print(Lab(sys.argv[1], engine="ray", address=address, threads=1, jobs=2).run(eval(sys.argv[2])).result)
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}")
"""


@dataclass(frozen=True)
class Walk(Recipe, kind="toy-ray-walk", does=f"{__name__}:walk"):
    """Takes steps in the loop, each told in a file outside the folder of runs."""

    number: int = 0
    fail: bool = False


@dataclass(frozen=True)
class Walks(Recipe, kind="toy-ray-walks", does=f"{__name__}:walks"):
    """Several."""

    of: tuple[Walk, ...] = ()


class Walker:
    """Counts its steps."""

    def __init__(self, recipe: Walk, root: Path) -> None:
        self.recipe, self.root, self.count = recipe, root, 0

    def step(self, number: int) -> dict[str, float]:
        time.sleep(float(os.environ.get(PAUSE, "0")))
        tell(self.root, self.recipe.number, number)
        self.count += self.recipe.number
        return {"count": self.count}

    def state(self) -> State:
        import torch

        from etude.train.checkpoint import State

        return State({"nothing": torch.zeros(1)}, {"count": self.count})

    def load(self, state: State) -> None:
        self.count = state.values["count"]


def walk(recipe: Walk, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    from etude.train.loop import advance

    if recipe.fail:
        raise EtudeError("planted failure")
    run.say(f"walking on {socket.gethostname()}")
    walker = Walker(recipe, run.path.parent)
    advance(walker, run, steps=STEPS, log_every=1, save_seconds=0.1)
    return {"count": walker.count}


def walks(recipe: Walks, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    return {"counts": [inputs[part].result["count"] for part in recipe.of]}


@pytest.fixture(autouse=True)
def sessions() -> Iterator[Path]:
    with sessions_folder() as folder:
        yield folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def begin(root: Path) -> Iterator[Begin]:
    """Start labs that work on Ray: on a cluster, or on one of their own."""
    with labs(LAB, root) as begin:
        yield begin


@pytest.fixture
def two() -> Iterator[Two]:
    with two_nodes(answer_ms=500) as two:
        yield two


@with_ray
def test_ray_gives_what_one_process_gives_and_says_it_alike(
    root: Path, tmp_path: Path, sessions: Path, begin: Begin
) -> None:
    recipe = Walks(tuple(Walk(number) for number in range(1, 5)))
    here = Lab(tmp_path / "here" / "runs", quiet=True)
    expected = here.run(recipe)
    process = begin("Walks(tuple(Walk(number) for number in range(1, 5)))")
    answer, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert answer == f"{Run(root / expected.id).result}\n", "nothing but the answer on standard output"
    progress = {line for line in said.splitlines() if "done, " in line or line.startswith("  toy-ray-")}
    assert set(said.splitlines()) - progress == {f"walking on {socket.gethostname()}"}, "and nothing of Ray's beside it"
    for each in (recipe, *recipe.of):
        assert differences(Run(here.root / each.id), Run(root / each.id)) == {}
    assert process.pid not in {process for _, _, process in told(root)}
    assert {path.name for path in root.iterdir()} == {each.id for each in (recipe, *recipe.of)} | {".locks"}
    assert not [path for path in sessions.glob("**/session_*") if path.exists()], "Ray's logs are gone with it"


@with_ray
@pytest.mark.kill
def test_a_failure_in_a_task_is_one_line_and_the_other_task_saves(root: Path, begin: Begin) -> None:
    slow = Walk(1)
    process = begin("Walks((Walk(1), Walk(2, fail=True)))", pause=1.0)
    answer, said = process.communicate(timeout=120)
    assert (process.returncode, answer) == (1, "")
    assert said.splitlines()[-1] == "EtudeError: planted failure"
    assert not any("Traceback" in line for line in said.splitlines())
    if taken := [step for number, step, _ in told(root) if number == 1]:
        kept = root / f"{slow.id}.partial" / "scratch" / f"checkpoint-{max(taken) + 1:09d}.safetensors"
        assert kept.exists()


# --- stopped and killed


@with_ray
@pytest.mark.kill
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_tasks_save_and_another_engine_goes_on(root: Path, begin: Begin, number: signal.Signals) -> None:
    recipe = Walks((Walk(1), Walk(2)))
    process = begin("Walks((Walk(1), Walk(2)))", pause=0.3)
    wait_for(lambda: {n for n, step, _ in told(root) if step >= 2} == {1, 2})
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)  # a terminal tells all, `kill` one
    answer, said = process.communicate(timeout=60)
    assert (process.returncode, answer) == (1, "")
    assert said.splitlines()[-1] == "Interrupted: stopped; run the same command again to go on from here"
    assert "Traceback" not in said
    assert not list((root / ".locks").glob("*.json")), "every task has left"
    assert len(told(root)) > 4
    Lab(root, quiet=True).run(recipe)  # another engine goes on as well
    every = [(number, step) for number, step, _ in told(root)]
    assert sorted(every) == [(number, step) for number in (1, 2) for step in range(STEPS)]


@with_ray
@pytest.mark.kill
def test_a_killed_node_costs_what_came_after_its_checkpoint_and_nothing_else(
    root: Path, tmp_path: Path, two: Two, begin: Begin
) -> None:
    recipe = Walks(tuple(Walk(number) for number in range(1, 9)))
    process = begin("Walks(tuple(Walk(number) for number in range(1, 9)))", two.address, pause=0.05)

    def half_way() -> bool:
        """Whether some run is done, and the second node is in the middle of one."""
        there, last = two.workers(), told(root)[-2:]
        return any(root.glob("*/files.json")) and any(p in there and 10 < step < 20 for _, step, p in last)

    wait_for(half_way)
    killed = two.kill_second()
    done = {path: path.stat().st_mtime_ns for path in root.glob("*/files.json")}
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    here = Lab(tmp_path / "here" / "runs", quiet=True)
    here.run(recipe)
    for each in (recipe, *recipe.of):
        assert differences(Run(here.root / each.id), Run(root / each.id)) == {}
    assert done and all(path.stat().st_mtime_ns == stamp for path, stamp in done.items())
    assert not list(root.glob("*.partial"))

    every = told(root)
    makers = {n: {p for number, _, p in every if number == n} for n in range(1, 9)}
    lost = [n for n in makers if len(makers[n]) > 1]
    assert len(lost) == 1 and makers[lost[0]] & killed, "one run was in the making on the node that was killed"
    for number in makers:
        steps = [step for n, step, _ in every if n == number]
        assert set(steps) == set(range(STEPS))
        again = len(steps) - STEPS
        assert again <= 5 if number in lost else again == 0
    assert f"{recipe.of[lost[0] - 1].id} lost its worker" in said


@with_ray
@pytest.mark.kill
def test_a_worker_that_lives_on_when_its_node_is_given_up_keeps_its_run(
    root: Path, tmp_path: Path, two: Two, begin: Begin
) -> None:
    recipe = Walks((Walk(1), Walk(2)))
    process = begin("Walks((Walk(1), Walk(2)))", two.address, pause=0.1)
    wait_for(lambda: {n for n, step, _ in told(root) if step >= 5} == {1, 2})
    number, zombie = next((n, p) for n, _, p in told(root) if p in two.workers())
    walked, other = recipe.of[number - 1], recipe.of[2 - number]
    for pid in (two.raylet, zombie):  # the machine does not answer, and its worker is not dead
        os.kill(pid, signal.SIGSTOP)
    before = [step for n, step, _ in told(root) if n == number]
    wait_for((root / other.id / "files.json").exists)
    post = root / ".post"
    wait_for(lambda: any("is being made by" in path.read_text() for path in post.glob(f"*/{walked.id}.txt")))
    time.sleep(1)
    assert [step for n, step, _ in told(root) if n == number] == before, "nobody works beside it"
    os.kill(zombie, signal.SIGCONT)  # it goes on as if nothing had been
    _, said = process.communicate(timeout=120)
    os.kill(two.raylet, signal.SIGKILL)
    assert process.returncode == 0, said
    assert f"{walked.id} lost its worker" in said
    assert f"{walked.id} is being made by process {zombie} on " in said
    assert sorted((n, step) for n, step, _ in told(root)) == [(n, step) for n in (1, 2) for step in range(STEPS)]
    assert {p for n, _, p in told(root) if n == number} == {zombie}
    here = Lab(tmp_path / "here" / "runs", quiet=True)
    here.run(recipe)
    for each in (recipe, *recipe.of):
        assert differences(Run(here.root / each.id), Run(root / each.id)) == {}
