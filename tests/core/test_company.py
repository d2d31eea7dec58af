"""Processes that start together: they meet whatever an earlier start left, and none waits for one that is gone."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from etude.core import company as module
from etude.core.company import Company, company
from etude.core.errors import EtudeError, UsageError
from etude.core.files import write_json
from etude.core.lab import Lab
from etude.core.run import MANIFEST
from etude.core.world import World, world

GOALS = ["toy-1"]


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 3.0)
    monkeypatch.setattr(module, "GRACE", 60.0)  # nobody is ended for good here


def rank(number: int, size: int = 2) -> World:
    return World(number, size, number, size, "launch")


def beside(work: Callable[[], object]) -> tuple[threading.Thread, list[BaseException]]:
    """Do work in a thread that stands for another process."""
    raised: list[BaseException] = []

    def do() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001
            raised.append(error)

    thread = threading.Thread(target=do)
    thread.start()
    return thread, raised


def make(root: Path, name: str) -> None:
    (root / name).mkdir(parents=True)
    write_json(root / name / MANIFEST, {})


def test_the_others_follow_the_first(tmp_path: Path):
    told: list[bool] = []

    def follow() -> None:
        with company(tmp_path, rank(1), GOALS) as us:
            told.append(us.wait_for("toy-1", to_begin=True))
            told.append(us.wait_for("toy-1", to_begin=False))

    thread, raised = beside(follow)
    with company(tmp_path, rank(0), GOALS) as us:
        us.begin("toy-1")
        while not told:
            time.sleep(0.01)
        assert thread.is_alive(), "the run is not done"
        make(tmp_path, "toy-1")
    thread.join(5)
    assert (told, raised) == ([False, True], [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["toy-1"]


def test_what_an_earlier_start_left_is_not_believed(tmp_path: Path):
    folder = tmp_path / ".together" / "launch"
    folder.mkdir(parents=True)
    stale = {"word": "w", "heard": {"1": "old"}, "goals": ["toy-0"], "making": "toy-1", "wrong": "they disagreed"}
    write_json(folder / "0.json", stale)
    write_json(folder / "1.json", {"word": "old", "goals": ["toy-0"]})
    done: list[bool] = []

    def follow() -> None:
        with company(tmp_path, rank(1), GOALS) as us:
            done.append(us.wait_for("toy-1", to_begin=True))

    thread, raised = beside(follow)
    time.sleep(0.2)
    with company(tmp_path, rank(0), GOALS):
        time.sleep(0.5)
        assert not done, "what was made then is not made now"
        make(tmp_path, "toy-1")
    thread.join(5)
    assert (done, raised) == ([True], [])


@pytest.mark.parametrize("ours", [["toy-1"], ["toy-1", "toy-3"], []])
def test_all_say_that_they_disagree(ours: list[str], tmp_path: Path):
    def other() -> None:
        with company(tmp_path, rank(2, 3), ["toy-2"]):
            pytest.fail("it went in")

    def agreeing() -> None:
        with company(tmp_path, rank(1, 3), ours):
            pytest.fail("it went in")

    threads = [beside(other), beside(agreeing)]
    with pytest.raises(UsageError, match=r"the ranks disagree on the recipe: rank 0 makes .*, rank 2 toy-2; start"):
        company(tmp_path, rank(0, 3), ours).__enter__()
    for thread, raised in threads:
        thread.join(5)
        assert "rank 2 toy-2" in str(raised[0])
    assert list(tmp_path.iterdir()) == []


def test_the_first_fails(tmp_path: Path):
    def follow() -> None:
        with company(tmp_path, rank(1), GOALS) as us:
            us.wait_for("toy-1", to_begin=True)

    thread, raised = beside(follow)
    with pytest.raises(ZeroDivisionError), company(tmp_path, rank(0), GOALS):
        raise ZeroDivisionError
    thread.join(10)
    assert "rank 1 lost rank 0 of 2, which ended before toy-1 was made; run the same command again" in str(raised[0])
    assert list(tmp_path.iterdir()) == []


def test_the_first_dies(tmp_path: Path):
    """Its lock is free, and what it said last still stands."""
    us = Company(tmp_path, rank(1), GOALS)
    us.folder.mkdir(parents=True)
    lock = FileLock(us.folder / "0.lock")
    lock.acquire()
    thread, raised = beside(us.agree)
    while not (us.folder / "1.json").exists():
        time.sleep(0.01)
    word = json.loads((us.folder / "1.json").read_text())["word"]
    write_json(us.folder / "0.json", {"word": "w", "heard": {"1": word}, "wrong": ""})
    thread.join(5)
    thread, raised = beside(lambda: us.wait_for("toy-1", to_begin=True))
    time.sleep(0.3)
    assert thread.is_alive()
    lock.release()
    thread.join(5)
    assert "rank 1 lost rank 0 of 2, which ended before toy-1" in str(raised[0])


@pytest.mark.parametrize(("number", "whom"), [(0, "rank 1"), (1, "rank 0")])
def test_nobody_waits_for_ever(number: int, whom: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "PATIENCE", 1.0)
    with pytest.raises(
        UsageError, match=f"rank {number} heard nothing from {whom} in 1 s: all ranks need the same fol"
    ):
        company(tmp_path, rank(number), GOALS).__enter__()
    assert list(tmp_path.iterdir()) == []


def test_one_that_went_another_way(tmp_path: Path):
    def follow() -> None:
        with company(tmp_path, rank(1), GOALS) as us:
            us.wait_for("toy-1", to_begin=True)

    thread, raised = beside(follow)
    with company(tmp_path, rank(0), GOALS) as us:
        us.begin("toy-2")
        thread.join(10)
    assert "rank 1 waits for toy-1 and rank 0 makes toy-2" in str(raised[0])


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE names several processes and RANK is not set: start them with torchrun"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two', no number,"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK 2 is none of WORLD_SIZE 2 processes: they are 0 to 1"),
    ],
)
def test_an_environment_that_says_half(environment: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=said):
        world()


def test_several_ranks_make_one_run_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert world().first
    with pytest.raises(UsageError, match="3 jobs at once, and 2 ranks that make each run together: leave out -j"):
        Lab(tmp_path, jobs=3, quiet=True).run_all([])


def test_another_start_of_the_same_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "PATIENCE", 0.5)
    folder = tmp_path / ".together" / "launch"
    folder.mkdir(parents=True)
    with (
        FileLock(folder / "0.lock"),
        pytest.raises(EtudeError, match=r"rank 0 of an earlier start still runs over .*: stop it first"),
    ):
        company(tmp_path, rank(0), GOALS).__enter__()


def test_whoever_clears_the_folder_under_another_disturbs_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The last to leave may remove the folder between another's look at a lock and its grasp at it."""
    ours = Company(tmp_path, rank(0), GOALS)
    ours.folder.mkdir(parents=True)
    (ours.folder / "1.lock").touch()
    grasp, cleared = FileLock.acquire, []

    def acquire(lock: FileLock, timeout: float) -> object:
        if not cleared:
            cleared.append(shutil.rmtree(ours.folder))
            raise FileNotFoundError(lock.lock_file)  # what opening it gives; the lock makes its folder just before
        return grasp(lock, timeout=timeout)

    monkeypatch.setattr(FileLock, "acquire", acquire)
    assert not ours._holds(1)
    cleared.clear()
    ours.folder.mkdir(parents=True)
    lock = ours.come()
    assert Company(tmp_path, rank(1), GOALS)._holds(0)
    lock.release()
