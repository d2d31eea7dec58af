"""Several processes raise one agent: each plays worlds of its own, and all take the step that one would with all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.culture.small import small

from etude.core.run import Run
from etude.culture import raising as module
from etude.culture.curriculum import Curriculum
from etude.culture.episodes import Episodes
from etude.culture.experts.slow import Slow
from etude.culture.layout import Layout, joined
from etude.culture.raising import Raising
from etude.culture.randomisation import Randomise, Range
from etude.culture.recipes import Raise
from etude.culture.rules.ppo import Ppo
from etude.culture.rules.v_mpo import VMpo

WHOLE = small(rule=Ppo(minibatches=1), curriculum=Curriculum(first=0.5), updates=3)
"""With all episodes in one part, so that the order of episodes does not matter, and the expert there all the time."""

RANDOMISED = Randomise(ranges=(Range("expert.wait", 0.5, 0.0, 0.2),), every=1, worlds=4, expand=-1e9, contract=-1e9)
RECIPES = [
    WHOLE,
    small(expert=Slow(wait=0.5), randomise=RANDOMISED, keep_every=2),
    small(rule=VMpo(minibatches=2), updates=2),
]

CHILD = """
import json, pickle, sys
from pathlib import Path
from etude.core.lab import Lab
from etude.core.recipe import Recipe
from etude.core.world import world
from etude.culture import raising
from etude.culture.raising import Raising

root, here = Path(sys.argv[1]), world()
step, play = Raising.step, raising.play

def noting(self, number):
    played = []
    def keeping(*args, **how):
        played.append(play(*args, **how))
        return played[-1]
    raising.play = keeping
    row = step(self, number)
    with (root / f"{self.recipe.id}-{number}-{here.rank}.pickle").open("wb") as file:
        pickle.dump((played[-1], dict(self.agent.state_dict()), row, self.boundaries), file)
    return row

Raising.step = noting
for data in json.loads((root / "recipes.json").read_text()):
    Lab(root / "runs", threads=1, quiet=True).run(Recipe.from_json(data))
"""

Step = tuple[Episodes, dict[str, torch.Tensor], dict[str, Any], tuple[float, ...]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes that `torchrun` started have made of all the recipes."""
    root = tmp_path_factory.mktemp("together")
    (root / "recipes.json").write_text(json.dumps([recipe.to_json() for recipe in RECIPES]))
    start = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python", sys.executable)
    done = subprocess.run(
        [sys.executable, *start, "-c", CHILD, str(root)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return root


def in_two(recipe: Raise) -> Raise:
    return replace(recipe, ranks=2)


def steps_of(folder: Path, recipe: Raise, number: int) -> list[Step]:
    import pickle

    names = [folder / f"{in_two(recipe).id}-{number}-{rank}.pickle" for rank in (0, 1)]
    return [pickle.loads(name.read_bytes()) for name in names]


def union(one: Episodes, other: Episodes) -> Episodes:
    joining: dict[type, Any] = {torch.Tensor: torch.cat, np.ndarray: np.concatenate, Layout: joined}
    pairs = {f.name: [getattr(one, f.name), getattr(other, f.name)] for f in fields(Episodes)}
    whole = {name: joining[type(pair[0])](pair) for name, pair in pairs.items()}
    return Episodes(**{**whole, "present": np.concatenate(pairs["present"], axis=1)})


def test_the_number_of_processes_is_in_the_recipe_that_is_made(folder: Path) -> None:
    for recipe in RECIPES:
        run = Run(folder / "runs" / in_two(recipe).id)
        assert run.recipe == in_two(recipe)
        assert run.result["environment_steps"] == recipe.updates * 8 * 9
    assert in_two(WHOLE).id != replace(WHOLE, ranks=1).id


def test_both_have_the_same_agent_after_every_step(folder: Path) -> None:
    for recipe in RECIPES:
        one: dict[str, torch.Tensor] = {}
        for number in range(recipe.updates):
            (_, one, row, at), (_, other, its_row, its) = steps_of(folder, recipe, number)
            assert all(torch.equal(value, other[name]) for name, value in one.items())
            assert at == its and all(row[name] == its_row[name] for name in ("score", "expert", "price_seen"))
        last = Run(folder / "runs" / in_two(recipe).id).tensors("agent.safetensors")
        assert all(np.array_equal(value, one[name].numpy()) for name, value in last.items())


def test_each_plays_worlds_of_its_own(folder: Path) -> None:
    for recipe in RECIPES:
        (one, *_), (other, *_) = steps_of(folder, recipe, 0)
        assert len(one.layout) == len(other.layout) == 4
        assert not np.array_equal(one.layout.goals, other.layout.goals)
        assert not torch.equal(one.actions, other.actions)


def test_their_steps_are_those_that_one_process_takes_with_all_episodes(folder: Path, monkeypatch) -> None:
    """So gradients are averaged and advantages are standardised over all."""
    live = Raising(replace(WHOLE, ranks=1))
    for number in range(WHOLE.updates):
        (one, weights, row, _), (other, *_) = steps_of(folder, WHOLE, number)
        every = union(one, other)
        assert every.present.all()
        before = {name: value.clone() for name, value in live.agent.state_dict().items()}
        monkeypatch.setattr(module, "play", lambda *_, every=every, **__: every)
        told = live.step(number)
        assert {name: told[name] for name in ("score", "expert")} == {name: row[name] for name in ("score", "expert")}
        for name, value in live.agent.state_dict().items():
            torch.testing.assert_close(value, weights[name], atol=2e-5, rtol=1e-4)
        moved = max(float((value - before[name]).abs().max()) for name, value in weights.items())
        assert moved > 1e-3, "far more than the two may differ"


def test_boundaries_move_as_one(folder: Path) -> None:
    recipe = RECIPES[1]
    found = [steps_of(folder, recipe, number)[0][3] for number in range(recipe.updates)]
    assert found[-1] == (0.0,) or found[0] != found[-1]
    assert Run(folder / "runs" / in_two(recipe).id).result["boundaries"] == {"expert.wait": found[-1][0]}
