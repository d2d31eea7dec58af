"""Several processes train one model: they take the very steps that one takes, end together, and share one folder.

Each start of torchrun costs seconds, so a start makes many trainings, and all but the essential ones are slow tests.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.run import Run
from etude.core.seeds import stream
from etude.models.architectures.encoder import Encoder
from etude.models.architectures.encoder_decoder import EncoderDecoder
from etude.text.batches import order
from etude.text.corpora.fable import Fable
from etude.text.corpora.multi30k import Multi30k
from etude.text.data import TextData
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte
from etude.train.checkpoint import saved_steps
from etude.train.objectives.masked import Masked
from etude.train.objectives.sequence_to_sequence import SequenceToSequence
from etude.train.optimisers.adamw import AdamW
from etude.train.optimisers.muon import Muon
from etude.train.recipes import Train
from etude.train.schedule import Schedule

Tiny = Callable[..., Train]
Job = tuple[Train, Path, int]
"""A training, the folder of its runs, and the step after whose beginning the last process interrupts it, or -1."""

CALM = AdamW(epsilon=1e-3)
"""Adam divides a gradient by its own size. One that is zero but for rounding, as that of b_K is, would move its weight
as far as any other; this keeps it still, so that weights can be compared."""

CHILD = """
import json, os, signal, sys
from pathlib import Path
from etude.core.errors import EtudeError
from etude.core.lab import Lab
from etude.core.recipe import Recipe
from etude.core.world import world
from etude.train.trainer import Trainer

here, step, batch = world(), Trainer.step, Trainer.batch

def stopping(self, number):
    if number + 1 == stop and here.rank == here.size - 1:
        os.kill(os.getpid(), signal.SIGINT)
    return step(self, number)

def noting(self, number):
    real = self.examples.batch
    def noted(indices, draw):
        with (root / f"seen-{here.rank}-of-{here.size}").open("a") as file:
            file.write(json.dumps([number, indices.tolist()]) + "\\n")
        return real(indices, draw=draw)
    self.examples.batch = noted
    try:
        return batch(self, number)
    finally:
        del self.examples.batch

Trainer.step, Trainer.batch = stopping, noting
for data, folder, stop in json.loads(Path(sys.argv[1]).read_text()):
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    try:
        Lab(root, threads=1, quiet=True).run(Recipe.from_json(data))
    except EtudeError as error:
        if stop < 0:
            raise
        print(f"rank {here.rank}: {error}", file=sys.stderr)
"""


def torchrun(ranks: int, *words: str, **environment: str) -> subprocess.Popen[str]:
    """Start a Python in several processes. `--standalone` finds itself a free port."""
    start = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), "--no-python")
    return subprocess.Popen(
        [sys.executable, *start, sys.executable, *words],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def made_by(ranks: int, jobs: Iterable[Job], folder: Path) -> list[Run]:
    """Make trainings in one start of several processes; return the runs of those that were not interrupted."""
    jobs = [(recipe.resolve(), root, stop) for recipe, root, stop in jobs]
    plan = folder / f"plan-{ranks}.json"
    plan.write_text(json.dumps([(recipe.to_json(), str(root), stop) for recipe, root, stop in jobs]))
    process = torchrun(ranks, "-c", CHILD, str(plan))
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said[:4000]
    for _, root, _ in jobs:
        assert not (root / ".together").exists(), "the processes leave nothing behind"
    return [Run(root / recipe.id) for recipe, root, stop in jobs if stop < 0]


def rows_of(run: Run) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "timing"} for row in run.record]


def largest_difference(one: Run, other: Run) -> float:
    theirs = other.tensors("model.safetensors")
    mine = one.tensors("model.safetensors")
    assert mine.keys() == theirs.keys()
    return max(float(np.abs(value - theirs[name]).max()) for name, value in mine.items())


def assert_same(made: Run, single: Run, *, weights: float = 2e-5, rows: float = 1e-4) -> None:
    """Assert that two trainings differ by rounding alone: sums are taken in another order."""
    assert len(made.record) == len(single.record)
    for row, wanted in zip(rows_of(made), rows_of(single), strict=True):
        assert row == pytest.approx(wanted, rel=rows, abs=rows / 10)
    assert largest_difference(made, single) < weights
    for name in ("untrained", "validation"):
        loss = made.result[name]["loss"]["mean"]
        assert loss == pytest.approx(single.result[name]["loss"]["mean"], rel=rows / 10)
    ours, theirs = made.tensors("validation.safetensors"), single.tensors("validation.safetensors")
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], rtol=10 * rows, atol=10 * rows)


@pytest.fixture(scope="module")
def calm(tiny: Tiny) -> Tiny:
    return lambda **fields: tiny(**{"optimiser": CALM, **fields})


def spread(recipe: Train) -> list[Train]:
    return [replace(recipe, spread="replicate"), replace(recipe, spread="shard")]


def test_two_processes_take_the_steps_of_one(calm: Tiny, trained: Callable[[Train], Run], tmp_path: Path):
    recipe = calm(accumulate=2)
    found = made_by(2, [(way, tmp_path / way.spread, -1) for way in spread(recipe)], tmp_path)
    for way, made in zip(spread(recipe), found, strict=True):
        assert_same(made, trained(recipe))
        assert made.provenance["ranks"] == 2
        assert sorted(made.files) == sorted(trained(recipe).files)
        assert made.id == trained(recipe).id, "how a training is spread is no part of its name"
        assert_in_order(tmp_path / way.spread, recipe, 2)


def assert_in_order(root: Path, recipe: Train, size: int) -> None:
    """Assert that the processes read, in every step, what one process would have read."""
    n = len(TextData.open(Lab(root).run(recipe.data)).examples("train", recipe.context))
    epochs = -(-recipe.steps * recipe.batch // n)
    every = np.concatenate([order(n, stream(recipe.seed, "order"), epoch) for epoch in range(epochs)])
    seen: list[list[list[int]]] = []
    for rank in range(size):
        lines = (root / f"seen-{rank}-of-{size}").read_text().splitlines()
        seen.append([indices for _, indices in sorted(json.loads(line) for line in lines)])
        assert len(lines) == recipe.steps
    for step in range(recipe.steps):
        together = [index for rank in range(size) for index in seen[rank][step]]
        assert together == every[step * recipe.batch : (step + 1) * recipe.batch].tolist()


def by_hand(rank: int, runs: Path, *words: str, size: int = 2) -> subprocess.Popen[str]:
    """Start one of several processes as somebody without torchrun would."""
    world = {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank), "MASTER_PORT": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "etude", "run", *words, "--runs", str(runs)],
        env={**os.environ, **world, "MASTER_ADDR": "localhost"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


FABLE = ("tokens", "--corpus", "fable", "--corpus.stories", "20", "--tokenizer", "byte")


def ended(processes: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    said = [process.communicate(timeout=100)[1] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


def test_ranks_that_disagree_say_so_and_leave_nothing(tmp_path: Path):
    others = (*FABLE[:4], "21", *FABLE[5:])
    for code, said in ended([by_hand(0, tmp_path / "runs", *FABLE), by_hand(1, tmp_path / "runs", *others)]):
        assert code == 2
        assert "the ranks disagree on the recipe: rank 0 makes tokens-" in said
        assert len(said.splitlines()) == 1
    assert [path.name for path in (tmp_path / "runs").rglob("*")] == []


ENCODER: dict[str, Any] = {"layers": 1, "width": 16, "heads": 2, "feedforward": 32, "context": 16}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Multi30k:
    folder = tmp_path_factory.mktemp("pairs")
    for name, count in (("train", 60), ("val", 12), ("test_2016_flickr", 12)):
        (folder / f"{name}.en").write_text("".join(f"{n} dogs\n" for n in range(count)))
        (folder / f"{name}.de").write_text("".join(f"{n} Hunde\n" for n in range(count)))
    return Multi30k(path=str(folder))


@pytest.fixture(scope="module")
def cases(calm: Tiny, pairs: Multi30k) -> dict[str, Train]:
    masking = Tokens(Fable(stories=60), Byte(specials=("mask",)))
    return {
        "average, chunked": calm(average=0.9, chunked="yes"),
        "patience": calm(patience=1, evaluate_every=2, steps=40),
        "tied, rotary, recomputed": calm(
            model={"layers": 2, "tied": True, "positions": "rotary", "norm": "rms"}, recompute="yes", chunked="yes"
        ),
        "bf16": calm(precision="bf16", steps=4),
        "second epoch": calm(batch=120, steps=24, accumulate=3),
        "state": calm(keep_state=True),
        "encoder": replace(calm(), data=masking, model=Encoder(**ENCODER), objective=Masked()),
        "encoder, bert's head": replace(
            calm(), data=masking, model=Encoder(**ENCODER, head="bert", tied=True), objective=Masked(), chunked="yes"
        ),
        "encoder, next sentence": replace(
            calm(),
            data=Tokens(Fable(stories=60), Byte(specials=("mask", "first", "separator", "pad"))),
            model=Encoder(**{**ENCODER, "context": 24}, segments=2, next_sentence=True),
            objective=Masked(next_sentence=True),
        ),
        "encoder-decoder": replace(
            calm(),
            data=Tokens(pairs, Byte()),
            model=EncoderDecoder(**{**ENCODER, "context": 12}, tied=True, norm_at="post"),
            objective=SequenceToSequence(),
        ),
    }


@pytest.fixture(scope="module")
def single(cases: dict[str, Train], trained: Callable[[Train], Run]) -> dict[str, Run]:
    return {name: trained(recipe) for name, recipe in cases.items()}


@pytest.mark.slow
@pytest.mark.parametrize("way", ["replicate", "shard"])
def test_every_kind_of_training(way: Any, cases: dict[str, Train], single: dict[str, Run], tmp_path: Path):
    jobs = [(replace(recipe, spread=way), tmp_path / way / str(n), -1) for n, recipe in enumerate(cases.values())]
    for name, made in zip(cases, made_by(2, jobs, tmp_path), strict=True):
        try:
            assert_same(made, single[name], **({"weights": 2e-3, "rows": 2e-2} if name == "bf16" else {}))
        except AssertionError as error:
            error.add_note(f"{name}, {way}")
            raise
        assert sorted(made.files) == sorted(single[name].files)


@pytest.mark.slow
def test_muon(tiny: Tiny, trained: Callable[[Train], Run], tmp_path: Path):
    recipe = tiny(optimiser=Muon(precision="fp32"), schedule=Schedule(peak=3e-3, warmup=4))
    [made] = made_by(2, [(recipe, tmp_path / "muon", -1)], tmp_path)
    assert_same(made, trained(recipe), weights=1e-4)


def test_muon_cannot_be_divided(tiny: Tiny):
    with pytest.raises(UsageError, match="optimiser muon needs each matrix whole: set --spread replicate, or"):
        tiny(optimiser=Muon(), spread="shard")


@pytest.mark.slow
def test_compiled(calm: Tiny, trained: Callable[[Train], Run], tmp_path: Path):
    recipe = calm(compiled="yes", steps=6)
    for way, made in zip(
        spread(recipe), made_by(2, [(way, tmp_path / way.spread, -1) for way in spread(recipe)], tmp_path), strict=True
    ):
        assert_same(made, trained(calm(steps=6)))
        assert way.compiled == "yes"


@pytest.mark.slow
def test_a_checkpoint_is_gone_on_with_by_any_number(calm: Tiny, trained: Callable[[Train], Run], tmp_path: Path):
    recipe = calm(batch=8, average=0.9, patience=3, evaluate_every=4, keep_state=True)
    made_by(2, [(way, tmp_path / f"{way.spread}-1", 7) for way in spread(recipe)], tmp_path)
    later: list[Job] = []
    for way in spread(recipe):
        begun = tmp_path / f"{way.spread}-1"
        assert saved_steps(begun / f"{recipe.resolve().id}.partial" / "scratch") == [7]
        for now in spread(recipe):
            later.append((now, shutil.copytree(begun, tmp_path / f"{way.spread}-{now.spread}-4"), -1))
    found = made_by(4, later, tmp_path)
    found += [Lab(tmp_path / f"{way.spread}-1", threads=1, quiet=True).run(recipe) for way in spread(recipe)]
    assert [run.provenance["ranks"] for run in found] == [4, 4, 4, 4, 1, 1]
    for run in found:
        assert_same(run, trained(recipe))
    for _, root, _ in later:
        for rank in range(4):
            first = json.loads((root / f"seen-{rank}-of-4").read_text().splitlines()[0])
            assert first[0] == 7, "no step is taken again"


@pytest.mark.slow
def test_a_state_that_two_processes_kept_is_extended_by_one(
    calm: Tiny, trained: Callable[[Train], Run], tmp_path: Path
):
    start = calm(keep_state=True).resolve()
    longer = replace(start, start=start, extend=True, steps=20)
    jobs = [(way, tmp_path / way.spread, -1) for way in spread(start)]
    made_by(2, jobs, tmp_path)
    for way in spread(start):
        alone = Lab(tmp_path / way.spread, threads=1, quiet=True)
        assert_same(alone.run(longer), trained(longer))


KILLED = """
import os, sys
from pathlib import Path
from etude.cli.app import main
from etude.train.trainer import Trainer

root, rank, restart = Path(sys.argv[1]), os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]
step = Trainer.step

def first(self, number):
    with (root / f"steps-{rank}").open("a") as file:
        file.write(f"{number}\\n")
    return step(self, number)

Trainer.step = first
sys.stderr = (root / f"said-{rank}-{restart}").open("w")
(root / f"pid-{rank}-{restart}").write_text(str(os.getpid()))
code = main(sys.argv[2:])
(root / f"code-{rank}-{restart}").write_text(str(code))
sys.exit(code)
"""

LONG = " ".join(
    (
        "run train --data.corpus fable --data.corpus.stories 60 --data.tokenizer byte --model.layers 1",
        "--model.width 16 --model.heads 2 --model.feedforward 32 --model.context 16 --batch 12 --steps 800",
        "--schedule.peak 1e-3 --evaluate-every 0 --evaluate-tokens 256 --precision fp32 --threads 1 --quiet",
    )
).split()


class Started:
    """A training in several processes, each of which writes down who it is, what it says and how it ends."""

    def __init__(self, folder: Path, way: str, *more: str, ranks: int = 2) -> None:
        self.folder, self.runs = folder, folder / "runs"
        self.recipe_words = [*LONG, "--spread", way, "--runs", str(self.runs)]
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), *more),
                *("--no-python", sys.executable, "-c", KILLED, str(folder), *self.recipe_words),
            ],
            env={**os.environ, "OMP_NUM_THREADS": "1", "ETUDE_SAVE_SECONDS": "0.3"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def checkpoints(self) -> list[int]:
        return [step for folder in self.runs.glob("*.partial/scratch") for step in saved_steps(folder)]

    def reach(self, count: int, after: int = 0) -> None:
        end = time.monotonic() + 200
        while sum(step > after for step in self.checkpoints()) < count:
            assert time.monotonic() < end and self.process.poll() is None, "no checkpoint came"
            time.sleep(0.01)

    def kill(self, rank: int, number: int = signal.SIGKILL, restart: int = 0) -> None:
        os.kill(int((self.folder / f"pid-{rank}-{restart}").read_text()), number)

    def said(self, rank: int, restart: int = 0) -> str:
        return (self.folder / f"said-{rank}-{restart}").read_text()

    def code(self, rank: int, restart: int = 0) -> int:
        return int((self.folder / f"code-{rank}-{restart}").read_text())


@pytest.mark.kill
@pytest.mark.parametrize(("way", "victim"), [("replicate", 1), ("replicate", 0), ("shard", 1), ("shard", 0)])
def test_a_rank_that_is_killed_ends_the_others(way: str, victim: int, tmp_path: Path):
    started = Started(tmp_path, way)
    started.reach(2)
    started.kill(victim)
    killed = time.time()
    assert started.process.wait(60) != 0
    told = started.said(1 - victim)
    assert started.code(1 - victim) == 1
    assert told.startswith(f"etude: rank {1 - victim} ")
    assert "run the same command again to go on" in told
    assert len(told.splitlines()) == 1
    reached = started.checkpoints()[-1]
    [newest] = started.runs.glob(f"*.partial/scratch/checkpoint-{reached:09d}.safetensors")
    assert killed - newest.stat().st_mtime < 0.3 + 5, "at most one interval is lost, and what saving takes"
    (tmp_path / "steps-0").unlink()
    again = Started(tmp_path, way)
    assert again.process.wait(300) == 0
    taken = [int(line) for line in (tmp_path / "steps-0").read_text().splitlines()]
    assert taken == list(range(reached, 800))


@pytest.mark.kill
def test_torchrun_starts_them_again_by_itself(tmp_path: Path):
    started = Started(tmp_path, "replicate", "--max-restarts", "1", ranks=3)
    started.reach(1)
    started.kill(2)
    assert started.process.wait(300) == 0
    assert {started.code(rank, restart=1) for rank in range(3)} == {0}
    for rank in (0, 1):
        assert started.code(rank) == 1
        assert started.said(rank).startswith(f"etude: rank {rank} ")
    assert [path.name for path in started.runs.glob(".together/*")] == []


@pytest.mark.kill
@pytest.mark.parametrize("way", ["replicate", "shard"])
def test_ctrl_c_saves(way: str, tmp_path: Path):
    started = Started(tmp_path, way)
    started.reach(1)
    started.process.send_signal(signal.SIGINT)
    started.process.wait(60)
    for rank in (0, 1):
        assert started.code(rank) == 1
        assert re.match(r"etude: stopped after step \d+ of 800; run the same command again", started.said(rank))
    taken = len((tmp_path / "steps-0").read_text().splitlines())
    assert started.checkpoints()[-1] == taken, "nothing is lost"


ENDLESS = ("tokens", "--corpus", "fable", "--corpus.stories", "2000000", "--tokenizer", "byte", "--quiet")


@pytest.mark.kill
@pytest.mark.parametrize(("victim", "said"), [(0, "ended before tokens-"), (1, "died or left")])
def test_ranks_started_by_hand_end_too(victim: int, said: str, tmp_path: Path):
    ranks = [by_hand(rank, tmp_path, *ENDLESS) for rank in (0, 1)]
    end = time.monotonic() + 100
    while not list(tmp_path.glob("tokens-*.partial")):
        assert time.monotonic() < end
        time.sleep(0.05)
    time.sleep(1.5)  # they have met
    ranks[victim].kill()
    _, told = ranks[1 - victim].communicate(timeout=60)
    ranks[victim].communicate()
    assert ranks[1 - victim].returncode == 1
    assert f"etude: rank {1 - victim} lost rank {victim} of 2, which {said}" in told
    assert len(told.splitlines()) == 1
