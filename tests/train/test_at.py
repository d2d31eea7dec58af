"""A training's model as it was at a step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from etude.core.errors import DamagedError, UsageError
from etude.core.lab import Lab
from etude.core.run import Run
from etude.core.seeds import stream
from etude.train.recipes import At, Train

Tiny = Callable[..., Train]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("at"), threads=1, quiet=True)


def weights(run: Run) -> dict[str, np.ndarray]:
    return run.tensors("model.safetensors")


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_step_0_is_the_untrained_model(shelf: Lab, tiny: Tiny):
    untrained = tiny().model.build(257, seed=stream(0, "weights"))
    found = weights(shelf.run(At(tiny(), step=0)))
    assert same(found, {name: value.numpy() for name, value in untrained.state_dict().items()})
    assert same(found, weights(shelf.run(tiny(steps=0))))


def test_the_last_step_is_the_trained_model(shelf: Lab, tiny: Tiny):
    run, trained = shelf.run(At(tiny(), step=12)), shelf.run(tiny())
    assert run.files["model.safetensors"] == trained.files["model.safetensors"]
    assert run.result == {"step": 12, "parameters": trained.result["parameters"], "timing": run.result["timing"]}


def test_a_kept_step_is_what_a_training_passes_through(shelf: Lab, tiny: Tiny):
    """With a constant rate, the first 4 steps of 12 are a training of 4 steps."""
    from etude.train.schedule import Schedule

    schedule = Schedule("constant", peak=1e-2, warmup=2)
    long, short = tiny(schedule=schedule), tiny(schedule=schedule, steps=4)
    assert same(weights(shelf.run(At(long, step=4))), weights(shelf.run(short)))
    assert not same(weights(shelf.run(At(long, step=4))), weights(shelf.run(At(long, step=8))))


def test_what_a_training_keeps(shelf: Lab, tiny: Tiny):
    kept = {Path(name).parent.as_posix() for name in shelf.run(tiny()).files if name.startswith("steps/")}
    assert kept == {f"steps/{step:09d}" for step in (4, 8, 12)}


def test_a_step_that_is_not_kept_is_refused_before_anything_is_trained(tiny: Tiny):
    with pytest.raises(UsageError, match="step 5 is not kept: this training keeps steps 0 and 12, and every 4 between"):
        At(tiny(), step=5)
    with pytest.raises(UsageError, match=r"keeps steps 0 and 12; see --of\.keep-every"):
        At(tiny(keep_every=0), step=4)


@pytest.mark.parametrize("step", [-1, 13])
def test_a_step_beyond_the_training(step: int, tiny: Tiny):
    with pytest.raises(UsageError, match=f"step {step} is not in this training: it has steps 0 to 12"):
        At(tiny(), step=step)


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_a_damaged_kept_model(name: str, lab: Lab, tiny: Tiny):
    trained = lab.run(tiny())
    path = trained.path / "steps" / "000000004" / name
    path.write_bytes(path.read_bytes().replace(b"a", b"b", 1))
    with pytest.raises(DamagedError, match=f"000000004/{name} is changed"):
        lab.run(At(tiny(), step=4))
