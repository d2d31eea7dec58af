"""Doing one recipe: what is left of work that fails, what is said of it, and what is put back afterwards."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from etude.core.errors import EtudeError, UsageError
from etude.core.files import bytes_of, require_room, write_text
from etude.core.lab import Lab
from etude.core.machine import cores, knows_bf16
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.core.work import use_threads, using_threads


@dataclass(frozen=True)
class Chore(Recipe, kind="toy-chore", does=f"{__name__}:do"):
    """Whatever the test says."""


WORK: list[Callable[[Draft], Any]] = []


def do(recipe: Chore, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    return WORK[-1](run) or {}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "runs", quiet=True)


@pytest.fixture
def partial(lab: Lab) -> Path:
    return lab.root / f"{Chore().id}.partial"


def working(lab: Lab, work: Callable[[Draft], Any]) -> Run:
    WORK.append(work)
    try:
        return lab.run(Chore())
    finally:
        WORK.pop()


def failing(error: BaseException) -> Callable[[Draft], Any]:
    def work(run: Draft) -> None:
        raise error

    return work


def test_provenance_is_taken_before_the_work(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from etude.core import work as module

    order: list[str] = []
    real = module.provenance
    monkeypatch.setattr(module, "provenance", lambda *a: order.append("provenance") or real(*a))
    working(lab, lambda run: order.append("work"))
    assert order == ["provenance", "work"]


def test_a_run_made_by_two_processes_counts_the_time_of_both(lab: Lab, partial: Path) -> None:
    def broken_off(run: Draft) -> None:
        time.sleep(0.3)
        raise KeyboardInterrupt

    with pytest.raises(EtudeError, match="stopped"):
        working(lab, broken_off)
    kept = json.loads((partial / "scratch" / "clock.json").read_text())
    assert kept["seconds"] >= 0.3
    kept["started"], kept["code"] = "2026-01-01T00:00:00+0000", {"version": "0", "source": "other"}
    (partial / "scratch" / "clock.json").write_text(json.dumps(kept))
    run = working(lab, lambda run: time.sleep(0.1))
    assert run.result["timing"]["seconds"] >= 0.4
    assert run.provenance["timing"]["started"] == "2026-01-01T00:00:00+0000"
    assert run.provenance["begun_with_code"] == {"version": "0", "source": "other"}


def test_a_damaged_clock_is_no_reason_to_stop(lab: Lab, partial: Path) -> None:
    with pytest.raises(EtudeError):
        working(lab, failing(KeyboardInterrupt()))
    (partial / "scratch" / "clock.json").write_text('{"seconds": 5}')
    run = working(lab, lambda run: None)
    assert run.result["timing"]["seconds"] < 5
    assert "begun_with_code" not in run.provenance


def test_wrong_use_leaves_nothing(lab: Lab, partial: Path) -> None:
    def refuse(run: Draft) -> None:
        (run.path / "half.txt").write_text("half")
        raise UsageError("cannot be")

    with pytest.raises(UsageError, match="cannot be"):
        working(lab, refuse)
    assert not partial.exists()


def test_wrong_use_after_a_checkpoint_keeps_the_draft(lab: Lab, partial: Path) -> None:
    def refuse(run: Draft) -> None:
        (run.scratch / "checkpoint-000000001.safetensors").write_bytes(b"weights")
        raise UsageError("cannot be")

    with pytest.raises(UsageError):
        working(lab, refuse)
    assert partial.exists()


class SafetensorError(Exception):
    """As safetensors raises it, in another language's words."""


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_told(lab: Lab, partial: Path, error: Exception) -> None:
    with pytest.raises(EtudeError, match="the disk is full") as told:
        working(lab, failing(error))
    assert Chore().id in str(told.value) and str(partial) in str(told.value) and "make room" in str(told.value)
    assert partial.exists()


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 4000 bytes."),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        MemoryError("Unable to allocate 7 PiB"),
    ],
)
def test_a_full_memory_is_told(lab: Lab, partial: Path, error: Exception) -> None:
    with pytest.raises(EtudeError, match=f"{Chore().id} needs more memory than there is; take a smaller batch"):
        working(lab, failing(error))
    assert partial.exists()


def test_pytorchs_own_words_for_a_full_memory_are_known(lab: Lab) -> None:
    with pytest.raises(EtudeError, match=r"--accumulate.* and -j 1"):
        working(lab, lambda run: torch.empty(10**17))


def test_any_other_error_is_left_as_it_is(lab: Lab, partial: Path) -> None:
    with pytest.raises(RuntimeError, match="sizes do not match"):
        working(lab, failing(RuntimeError("sizes do not match")))
    assert partial.exists()


def test_what_the_work_says_reaches_the_person(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    working(Lab(tmp_path), lambda run: run.say("mind the gap"))
    assert "mind the gap" in capsys.readouterr().err


def test_room_is_counted_in_sizes_that_are_not_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = type("Usage", (), {"free": 3_000_000})()
    monkeypatch.setattr("shutil.disk_usage", lambda path: free)
    with pytest.raises(EtudeError, match=r"train-1 needs 40 MB in .* and the disk has 3.0 MB free"):
        require_room(tmp_path, 40_000_000, "train-1")
    assert [bytes_of(size) for size in (312, 4200, 1.3e9)] == ["312 B", "4.2 kB", "1.3 GB"]


def test_a_text_is_whole_or_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_text(tmp_path / "new" / "page.md", "old\n")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    assert path.read_bytes() == b"old\n" and list(path.parent.iterdir()) == [path]


def test_a_run_made_here_leaves_the_threads_as_they_were(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    torch.set_num_threads(2)
    seen: list[tuple[int, str]] = []
    lab.threads = 1
    working(lab, lambda run: seen.append((torch.get_num_threads(), os.environ["MKL_NUM_THREADS"])))
    assert seen == [(1, "1")]
    assert torch.get_num_threads() == 2
    assert os.environ["OMP_NUM_THREADS"] == "3" and "MKL_NUM_THREADS" not in os.environ


def test_a_list_of_threads_in_the_environment_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    before: list[int] = []
    monkeypatch.setenv("OMP_NUM_THREADS", "2,1")
    monkeypatch.delitem(__import__("sys").modules, "torch")
    monkeypatch.setattr("etude.core.work.use_threads", lambda threads: before.append(threads) or use_threads(threads))
    with using_threads(1):
        pass
    assert before == [1, 2] and os.environ["OMP_NUM_THREADS"] == "2,1"


def test_cores_are_those_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert cores() == 3
    assert Lab("runs", jobs=1).threads == 3


@pytest.mark.parametrize(
    ("cpuinfo", "native"),
    [
        ("processor : 0\nflags\t\t: fpu avx512f avx512_bf16 amx_tile\n", True),
        ("flags\t\t: fpu amx_bf16\n", True),
        ("processor : 0\nFeatures\t: fp asimd i8mm bf16 sve\n", True),
        ("flags\t\t: fpu avx512f\nmodel name : bf16\n", False),
        ("Features\t: fp asimd\n", False),
    ],
)
def test_bf16_is_known_by_its_flag(cpuinfo: str, native: bool) -> None:
    assert knows_bf16(cpuinfo) is native
