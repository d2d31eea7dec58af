"""A training whose process is killed, in the middle of anything, and that is gone on with: `make test-kill`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from etude.core.lab import Lab
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.core.shelf import differences
from etude.train.checkpoint import latest, saved_steps
from etude.train.recipes import Train

pytestmark = pytest.mark.kill

CHILD = """
import functools, json, sys
from etude.core.lab import Lab
from etude.core.recipe import Recipe
from etude.train import work

work.advance = functools.partial(work.advance, save_seconds=0.0)
Lab(sys.argv[1], threads=1, quiet=True).run(Recipe.from_json(json.loads(sys.argv[2])))
"""


@pytest.fixture(scope="module")
def recipe(tiny: Callable[..., Train]) -> Train:
    return tiny(steps=240, batch=4, accumulate=2, model={"dropout": 0.1}, evaluate_every=40, keep_every=60).resolve()


@pytest.fixture(scope="module")
def whole(recipe: Train, trained: Callable[[Train], Run]) -> Run:
    return trained(recipe)


def begin(lab: Lab, recipe: Recipe) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, str(lab.root), json.dumps(recipe.to_json())]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def scratch_of(lab: Lab, recipe: Recipe) -> Path:
    return lab.root / f"{recipe.id}.partial" / "scratch"


def wait_for_checkpoints(lab: Lab, recipe: Recipe, count: int, after: int = 0) -> None:
    end = time.monotonic() + 120
    while sum(taken > after for taken in saved_steps(scratch_of(lab, recipe))) < count:
        assert time.monotonic() < end, "no checkpoint came"
        time.sleep(0.005)


def kill(process: subprocess.Popen[str], lab: Lab, recipe: Recipe) -> int:
    """Kill it, and return the step of the checkpoint that it left."""
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert lab.lookup(recipe) is None
    found = latest(scratch_of(lab, recipe), say=lambda text: None)
    assert found is not None and found[0] < recipe.steps  # type: ignore[attr-defined]
    return found[0]


def test_killed_twice_and_its_newest_checkpoint_damaged(lab: Lab, recipe: Train, whole: Run):
    process = begin(lab, recipe)
    wait_for_checkpoints(lab, recipe, 1)
    reached = kill(process, lab, recipe)
    process = begin(lab, recipe)
    wait_for_checkpoints(lab, recipe, 2, after=reached)
    assert kill(process, lab, recipe) > reached
    newest = scratch_of(lab, recipe) / f"checkpoint-{saved_steps(scratch_of(lab, recipe))[-1]:09d}.safetensors"
    data = newest.read_bytes()
    newest.write_bytes(data[: len(data) // 2])
    resumed = lab.run(recipe)
    assert differences(whole, resumed) == {}
    assert whole.files["model.safetensors"] == resumed.files["model.safetensors"]
    assert "damaged and passed over" in resumed.provenance["damaged_checkpoints"][0]


def test_interrupted_it_says_so_and_is_the_same_training(lab: Lab, recipe: Train, whole: Run):
    process = begin(lab, recipe)
    wait_for_checkpoints(lab, recipe, 1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 1
    assert "Interrupted: stopped after step " in said
    assert lab.lookup(recipe) is None
    assert differences(whole, lab.run(recipe)) == {}
