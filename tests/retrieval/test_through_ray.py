"""A library and neighbours made through Ray: the same files as here, whatever is killed on the way."""

from __future__ import annotations

import importlib.util
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.ray_cluster import PAUSE, Begin, Two, labs, sessions_folder, tell, told, two_nodes, wait_for

from etude.core.lab import Lab
from etude.core.run import Run
from etude.retrieval import lance_index, manifest, neighbours_work, work
from etude.retrieval.embedders.tfidf import Tfidf
from etude.retrieval.manifest import Manifest
from etude.retrieval.recipes import Library, Neighbours
from etude.text.corpora.fable import Fable
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte

pytestmark = pytest.mark.xdist_group("ray")  # one cluster at a time

SHARD, BLOCK = 512, 4096
RUNS = {"recipe.json", "result.json", "provenance.json"}
"""Files of every run, which say how it was made."""

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

LAB = """
import sys
from etude.core.errors import EtudeError
from tests.retrieval.test_through_ray import *
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are started deaf to it
    os.environ["RAY_ADDRESS"] = sys.argv[3]
    in_small_parts()
    work.Shards = Slow
    try:
        print(Lab(sys.argv[1], threads=1).run(replace(eval(sys.argv[2]), through="ray")).id)
    except EtudeError as error:
        sys.exit(f"{type(error).__name__}: {error}")
"""


def in_small_parts() -> None:
    """Let a small text have several shards, and several blocks."""
    manifest.SHARD, neighbours_work.AT_ONCE, lance_index.IN_SEGMENT = SHARD, BLOCK, 8


class Slow(work.Shards):
    """Makes shards with a pause before each, and tells which process it is in, outside the folder of runs."""

    def __call__(self, part: dict[str, Any]) -> dict[str, Any]:
        time.sleep(float(os.environ.get(PAUSE, "0")))
        tell(self._folder.parent, part["number"])
        if os.environ.get(PAUSE) == "0.001" and part["number"] == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(part)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "SHARD", SHARD)
    monkeypatch.setattr(neighbours_work, "AT_ONCE", BLOCK)
    monkeypatch.setattr(lance_index, "IN_SEGMENT", 100)  # all in one: how many there are must not matter


@pytest.fixture(autouse=True)
def sessions() -> Iterator[None]:
    with sessions_folder():
        yield


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def begin(root: Path) -> Iterator[Begin]:
    """Start labs whose work goes through Ray: on a cluster, or on one of their own."""
    with labs(LAB, root) as begin:
        yield begin


@pytest.fixture
def two() -> Iterator[Two]:
    with two_nodes(answer_ms=3000) as two:  # a busy one answers
        yield two


def made_here(tmp_path: Path, recipe: Library | Neighbours) -> Run:
    """Return the run of a recipe, made in this process."""
    return Lab(tmp_path / "here" / "runs", quiet=True, threads=1).run(recipe)


def assert_same(one: Run, other: Run) -> None:
    """Every file is the same, hash for hash, but for those that say how it was made."""
    assert one.files.keys() == other.files.keys() and len(one.files.keys() - RUNS) > 3
    assert {name for name in one.files if one.files[name] != other.files[name]} <= RUNS
    assert {**one.result, "timing": None} == {**other.result, "timing": None}


def test_where_the_work_is_done_does_not_enter_the_name() -> None:
    assert replace(LIBRARY, through="ray").resolve().id == LIBRARY.resolve().id
    assert replace(LISTED, through="ray").resolve().id == LISTED.resolve().id
    assert replace(LISTED, index="ivf").resolve().id != LISTED.resolve().id


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
    two.kill_second()
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
