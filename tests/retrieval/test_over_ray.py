"""Parts that are made anywhere, in any order, and gathered; and what is refused before a worker starts."""

from __future__ import annotations

import importlib.util
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude.core.done import Done
from etude.core.engines.arrival import require_shown
from etude.core.errors import EtudeError, UsageError
from etude.core.files import sha256_of
from etude.core.lab import Lab
from etude.core.run import Run
from etude.retrieval import manifest, over_ray, work
from etude.retrieval.building import gathered
from etude.retrieval.embedders.tfidf import Tfidf
from etude.retrieval.libraries import FITTED
from etude.retrieval.manifest import Manifest, Stored
from etude.retrieval.over_ray import reachable
from etude.retrieval.recipes import Library
from etude.text.corpora.fable import Fable
from etude.text.data import TextData
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte

RUNS = {"recipe.json", "result.json", "provenance.json"}
"""Files of every run, which say how it was made."""

TEXT = Tokens(Fable(stories=80), Byte())
LIBRARY = Library(TEXT, chunk=4, embedder=Tfidf(dimension=8))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "SHARD", 512)  # so that a small text has several


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@given(st.integers(0, 10**11))
def test_shards_are_never_too_many_and_grow_only_where_they_would_be(chunks: int) -> None:
    size = manifest.shard_for(chunks)
    assert size & (size - 1) == 0 and -(-chunks // size) <= manifest.MOST_SHARDS
    assert size == manifest.SHARD or -(-chunks // (size // 2)) > manifest.MOST_SHARDS


def at_hand(root: Path) -> tuple[Done, Run]:
    """Return the library's inputs and its run, made here."""
    run, done = Lab(root, quiet=True, threads=1).run(LIBRARY), Done()
    done.add(TEXT.resolve(), Lab(root, quiet=True).run(TEXT))
    return done, run


def test_shards_made_one_by_one_in_any_order_are_gathered_into_the_same_library(root: Path, tmp_path: Path) -> None:
    inputs, run = at_hand(root)
    again = tmp_path / "again"
    again.mkdir()
    shutil.copy(run.path / FITTED, again)
    plan = Manifest.read(run.path).begun()
    asked: list[list[int]] = []

    def make(numbers: Sequence[int], stop: int) -> Iterator[tuple[int, Stored]]:
        asked.append(list(numbers))
        maker = work.Shards(LIBRARY, reachable(inputs), again, plan)
        for number in list(numbers)[::-1][:stop]:
            made = maker({"number": number})
            yield made["number"], Stored(made["bytes"], made["sha256"])
        (again / ".keys-00001.npy.1.tmp").write_bytes(b"of a machine that was lost in the middle of a write")

    told: list[tuple[int, int]] = []
    half = gathered(again, plan, partial(make, stop=5), lambda done, total: told.append((done, total)))
    assert sum(shard is not None for shard in half.shards) == 5 == len(told) and Manifest.read(again) == half
    whole = gathered(again, plan, partial(make, stop=1000), lambda done, total: told.append((done, total)))
    assert asked == [list(range(len(plan.shards))), list(range(len(plan.shards) - 5))]
    assert told[-1] == (plan.chunks, plan.chunks) and sorted(told) == told
    assert whole == Manifest.read(run.path)
    assert {path.name for path in again.iterdir()} == {name for name in run.files if name not in RUNS}
    assert all(sha256_of(path) == run.files[path.name]["sha256"] for path in again.iterdir())


def test_a_machine_with_another_folder_or_that_would_make_other_keys_is_refused(root: Path, tmp_path: Path) -> None:
    inputs, run = at_hand(root)
    plan = Manifest.read(run.path).begun()
    with pytest.raises(EtudeError, match="name a folder that all machines of the cluster share with --runs"):
        work.Shards(LIBRARY, inputs, tmp_path / "elsewhere", plan)
    with pytest.raises(EtudeError, match="would make other keys than where this was started: install the same Etude"):
        work.Shards(LIBRARY, inputs, run.path, replace(plan, fitted="another"))


def test_what_another_machine_wrote_and_nobody_sees_is_told(tmp_path: Path) -> None:
    with pytest.raises(EtudeError, match=r"keys-00000\.npy was made on another machine and does not show"):
        require_shown(tmp_path / "keys-00000.npy", patience=0.0)
    threading.Timer(0.3, lambda: (tmp_path / "late").touch()).start()
    require_shown(tmp_path / "late", patience=30.0)


def doubling(factor: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    OPENED.append(factor)
    return lambda part: {"twice": factor * part["number"]}


OPENED: list[int] = []


def test_a_worker_opens_once_for_a_job_and_a_part_whose_workers_die_is_given_up(tmp_path: Path) -> None:
    jobs = [over_ray.Job(name, tmp_path, doubling, (2,), 1) for name in ("one", "two")]
    for job in jobs:
        for number in (3, 4):
            row = {"number": number, "part": {"number": number}}
            assert over_ray._made(row, job) == {"twice": 2 * number}
    assert OPENED == [2, 2] and not list(tmp_path.iterdir())
    jobs[1].begun(5).write_text("." * over_ray.TRIES)  # as many workers began it, and none of them ended it
    with pytest.raises(EtudeError, match=f"a worker died {over_ray.TRIES} times over one part"):
        over_ray._made({"number": 5, "part": {"number": 5}}, jobs[1])


def test_other_machines_find_runs_by_absolute_paths_and_need_not_read_them_through(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, _ = at_hand(root)
    monkeypatch.chdir(root.parent)
    relative = Run("runs/" + inputs[TEXT].id)
    TextData.open(relative).store("train")
    there = reachable({TEXT.resolve(): relative})[TEXT]
    assert there.path == root / relative.id and relative.path == Path("runs") / relative.id
    data = there.path / "train.tokens"
    data.chmod(0o644)
    data.write_bytes(data.read_bytes()[:-1] + b"?")  # nobody reads this through again
    assert there.file("train.tokens") == data


def test_no_parts_need_no_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None)
    assert list(over_ray.over_ray(tmp_path, doubling, (2,), [])) == []
    with pytest.raises(UsageError, match=r"Ray is asked for and is not installed: pip install 'etude\[ray\]'"):
        list(over_ray.over_ray(tmp_path, doubling, (2,), [{"number": 1}]))


def cluster_of(cores: float, task: str | None) -> Any:
    """Return what stands for Ray, asked from inside a task or from outside."""
    return SimpleNamespace(
        nodes=lambda: [{"Alive": True, "Resources": {"CPU": cores}}],
        get_runtime_context=lambda: SimpleNamespace(get_task_id=lambda: task),
    )


def test_a_worker_that_fits_no_machine_and_one_that_would_wait_for_its_own_core_are_refused() -> None:
    over_ray._check_fits(cluster_of(4.0, None), 4)
    with pytest.raises(UsageError, match=r"a worker of 8 threads needs 8 CPU on one machine, and the most .* is 4 CPU"):
        over_ray._check_fits(cluster_of(4.0, None), 8)
    with pytest.raises(UsageError, match="--through ray inside --engine ray: choose one"):
        over_ray._check_fits(cluster_of(4.0, "of a task"), 1)
