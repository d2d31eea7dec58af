"""A library and neighbours made on a Ray cluster: the same files as here, whatever is killed on the way."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
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
from etude.retrieval import lance_index, manifest, neighbours_work, over_ray, work
from etude.retrieval.building import gathered
from etude.retrieval.embedders.tfidf import Tfidf
from etude.retrieval.libraries import FITTED
from etude.retrieval.manifest import Manifest, Stored
from etude.retrieval.over_ray import reachable
from etude.retrieval.recipes import Library, Neighbours
from etude.text.corpora.fable import Fable
from etude.text.data import TextData
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte

HERE = Path(__file__)
SHARD, BLOCK = 512, 4096
RUNS = {"recipe.json", "result.json", "provenance.json"}
"""Files of every run, which say how it was made."""

PAUSE = "ETUDE_TEST_PAUSE"
"""Variable with the seconds that a shard takes. It goes along to the workers."""

TEXT = Tokens(Fable(stories=80), Byte())
LIBRARY = Library(TEXT, chunk=4, embedder=Tfidf(dimension=8))
LISTED = Neighbours(LIBRARY, k=3, near_duplicates=0.0, index="lance", recall=0.9)

with_ray = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("ray", "pandas")), reason="no ray: pip install 'etude[ray]'"
)
with_lance = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("lance", "faiss")),
    reason="no lance: pip install 'etude[retrieval,lance]'",
)

CLUSTER = """
import sys
from ray.cluster_utils import Cluster
one = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
cluster = Cluster(initialize_head=True, head_node_args={**one, "include_dashboard": False})
second = cluster.add_node(**one)
print(cluster.address, second.all_processes["raylet"][0].process.pid, flush=True)
sys.stdin.read()
cluster.shutdown()
"""
LAB = """
import sys
from test_over_ray import *
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are started deaf to it
    in_small_parts()
    work.Shards = Slow
    try:
        print(Lab(sys.argv[1], threads=1).run(replace(eval(sys.argv[2]), through="ray")).id)
    except EtudeError as error:
        sys.exit(f"{type(error).__name__}: {error}")
"""
Begin = Callable[..., subprocess.Popen[str]]
QUICK = {  # a node that does not answer is given up after some seconds, not after half a minute; a busy one answers
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
}
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}


def in_small_parts() -> None:
    """Let a small text have several shards, and several blocks."""
    manifest.SHARD, neighbours_work.AT_ONCE, lance_index.IN_SEGMENT = SHARD, BLOCK, 8


class Slow(work.Shards):
    """Makes shards with a pause before each, and tells which process it is in, outside the folder of runs."""

    def __call__(self, part: dict[str, Any]) -> dict[str, Any]:
        time.sleep(float(os.environ.get(PAUSE, "0")))
        with (self._folder.parents[1] / "told.txt").open("a") as file:
            file.write(f"{part['number']} {os.getpid()}\n")
        if os.environ.get(PAUSE) == "0.001" and part["number"] == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(part)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "SHARD", SHARD)
    monkeypatch.setattr(neighbours_work, "AT_ONCE", BLOCK)
    monkeypatch.setattr(lance_index, "IN_SEGMENT", 100)  # all in one: how many there are must not matter


@pytest.fixture(autouse=True)
def sessions(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give Ray a folder for its sessions that is not kept. Its sockets need a short path."""
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        yield


def environment() -> dict[str, str]:
    """Return an environment in which Ray's workers find this file and stay on this machine."""
    paths = [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, **LOOPBACK, "PYTHONPATH": os.pathsep.join(paths), "RAY_ADDRESS": "", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def begin(root: Path) -> Iterator[Begin]:
    """Start a lab whose work goes through Ray: on a cluster, or on one of its own."""
    begun: list[subprocess.Popen[str]] = []

    def start(recipe: str, address: str = "", pause: float = 0.0) -> subprocess.Popen[str]:
        begun.append(
            subprocess.Popen(
                [sys.executable, "-c", LAB, str(root), recipe],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
                env={**environment(), "RAY_ADDRESS": address, PAUSE: str(pause)},
            )
        )
        return begun[-1]

    yield start
    for process in begun:
        with process:
            process.kill()


@dataclass
class Two:
    """Two nodes of a cluster on this machine."""

    address: str
    raylet: int

    def workers(self) -> set[int]:
        """Return the processes that the second node's raylet started."""
        return {int(pid) for pid in Path(f"/proc/{self.raylet}/task/{self.raylet}/children").read_text().split()}


@pytest.fixture
def two() -> Iterator[Two]:
    if not Path("/proc/self/task").exists():
        pytest.skip("no /proc tells which processes are a node's")
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**environment(), **QUICK},
    )
    assert process.stdout is not None
    address, raylet = process.stdout.readline().split()
    yield Two(address, int(raylet))
    process.communicate(timeout=60)


def told(root: Path) -> list[tuple[int, int]]:
    """Return number and process of every shard that was begun anywhere, in order."""
    path = root.parent / "told.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(number), int(process)) for number, process in map(str.split, lines)]


def wait_for(condition: Callable[[], Any], seconds: float = 240.0) -> None:  # Ray takes long to start on a busy machine
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def made_here(tmp_path: Path, recipe: Library | Neighbours) -> Run:
    """Return the run of a recipe, made in this process."""
    return Lab(tmp_path / "here" / "runs", quiet=True, threads=1).run(recipe)


def assert_same(one: Run, other: Run) -> None:
    """Every file is the same, hash for hash, but for those that say how it was made."""
    assert one.files.keys() == other.files.keys() and len(one.files.keys() - RUNS) > 3
    assert {name for name in one.files if one.files[name] != other.files[name]} <= RUNS
    assert {**one.result, "timing": None} == {**other.result, "timing": None}


# --- what needs no cluster


def test_where_the_work_is_done_does_not_enter_the_name() -> None:
    assert replace(LIBRARY, through="ray").resolve().id == LIBRARY.resolve().id
    assert replace(LISTED, through="ray").resolve().id == LISTED.resolve().id
    assert replace(LISTED, index="ivf").resolve().id != LISTED.resolve().id


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


# --- on a cluster


@with_ray
@pytest.mark.slow
def test_a_library_through_ray_is_that_of_one_process_hash_for_hash(root: Path, tmp_path: Path, begin: Begin) -> None:
    here = made_here(tmp_path, LIBRARY)
    process = begin("LIBRARY")
    answer, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert answer == f"{here.id}\n", "nothing but the answer on standard output"
    assert not [line for line in said.splitlines() if not line.startswith("  ") and "done, " not in line], said
    assert_same(here, Run(root / here.id))
    assert here.result["shards"] > 8 and process.pid not in {pid for _, pid in told(root)}


@with_ray
@pytest.mark.kill
def test_two_nodes_make_the_library_between_them_and_a_cluster_that_is_not_there_costs_nothing(
    root: Path, tmp_path: Path, two: Two, begin: Begin
) -> None:
    here = made_here(tmp_path, LIBRARY)
    process = begin("LIBRARY", two.address, pause=0.2)
    wait_for(lambda: len(told(root)) > 4)
    process.kill()  # the driver; what is done stays
    process.wait()
    draft = root / f"{here.id}.partial"
    done = sum(shard is not None for shard in Manifest.read(draft).shards)
    assert 0 < done < here.result["shards"]
    answer, said = begin("LIBRARY", "127.0.0.1:1").communicate(timeout=300)
    assert answer == "" and said.splitlines()[-1].startswith("UsageError: no Ray cluster could be joined")
    assert sum(shard is not None for shard in Manifest.read(draft).shards) == done
    (root.parent / "told.txt").unlink()
    process = begin("LIBRARY", two.address, pause=0.2)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert len({number for number, _ in told(root)}) == here.result["shards"] - done
    assert len({pid for _, pid in told(root)}) == 2, "both nodes took part"
    assert_same(here, Run(root / here.id))


@with_ray
@pytest.mark.kill
def test_a_killed_node_costs_what_it_had_in_hand_and_nothing_else(
    root: Path, tmp_path: Path, two: Two, begin: Begin
) -> None:
    here = made_here(tmp_path, LIBRARY)
    process = begin("LIBRARY", two.address, pause=0.3)
    wait_for(lambda: len(told(root)) > 4 and {pid for _, pid in told(root)[-3:]} & two.workers())
    for pid in (two.raylet, *two.workers()):
        os.kill(pid, signal.SIGKILL)
    answer, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert answer == f"{here.id}\n", "not a word of the node on standard output"
    numbers = [number for number, _ in told(root)]
    assert set(numbers) == set(range(here.result["shards"])) and len(numbers) <= here.result["shards"] + 2
    assert_same(here, Run(root / here.id))


@with_ray
@pytest.mark.slow
def test_a_worker_that_always_dies_ends_the_work_in_one_line_and_another_way_goes_on(
    root: Path, tmp_path: Path, begin: Begin
) -> None:
    answer, said = begin("LIBRARY", pause=0.001).communicate(timeout=300)
    assert answer == "" and "Traceback" not in said
    assert said.splitlines()[-1].startswith("EtudeError: a worker died 4 times over one part: out of memory, or killed")
    here = made_here(tmp_path, LIBRARY)
    assert_same(here, Lab(root, quiet=True, threads=1).run(LIBRARY))


@with_ray
@pytest.mark.slow
def test_an_interrupt_ends_it_promptly_in_one_line_and_the_same_command_goes_on(
    root: Path, tmp_path: Path, begin: Begin
) -> None:
    process = begin("LIBRARY", pause=0.5)
    wait_for(lambda: len(told(root)) > 3)
    os.killpg(process.pid, signal.SIGINT)
    answer, said = process.communicate(timeout=30)
    assert answer == "" and "Traceback" not in said
    assert said.splitlines()[-1] == "Interrupted: stopped; run the same command again to go on from here"
    _, said = begin("LIBRARY").communicate(timeout=300)
    here = made_here(tmp_path, LIBRARY)
    assert_same(here, Run(root / here.id))


@with_ray
@with_lance
@pytest.mark.kill
def test_neighbours_and_their_index_through_two_nodes_are_those_of_one_process(
    root: Path, tmp_path: Path, two: Two, begin: Begin
) -> None:
    for recipe, name in ((LISTED, "LISTED"), (replace(LISTED, index="exact"), "replace(LISTED, index='exact')")):
        here = made_here(tmp_path, recipe)
        answer, said = begin(name, two.address).communicate(timeout=300)
        assert answer == f"{here.id}\n", said
        assert_same(here, Run(root / here.id))
    assert "train.neighbours.npy" in here.files
