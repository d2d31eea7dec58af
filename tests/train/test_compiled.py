"""A training that PyTorch compiles: the same losses to rounding, the same files, and gone on with after a stop."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from typing import Any

import pytest

import etude
from etude.core.errors import Interrupted
from etude.core.lab import Lab
from etude.core.run import Run
from etude.train.recipes import Train
from etude.train.trainer import Trainer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # what PyTorch's compiler warns of in itself
    pytest.mark.skipif(not (shutil.which("c++") or shutil.which("g++")), reason="compiling needs a C++ compiler"),
]

Tiny = Callable[..., Train]


def losses(run: Run) -> list[float]:
    return [row["loss"] for row in run.record if "loss" in row]


@pytest.mark.parametrize("chunked", ["no", "yes"])
def test_the_losses_are_those_of_the_eager_training(chunked: str, tiny: Tiny, trained: Callable[[Train], Run]):
    fields: dict[str, Any] = {"chunked": chunked, "accumulate": 2, "average": 0.5}
    eager, compiled = trained(tiny(**fields)), trained(tiny(compiled="yes", **fields))
    assert eager.id != compiled.id
    assert losses(compiled) == pytest.approx(losses(eager), rel=1e-4)
    for name in ("validation", "untrained"):
        wanted = eager.result[name]["loss"]["mean"]
        assert compiled.result[name]["loss"]["mean"] == pytest.approx(wanted, rel=1e-4)


def test_its_files_have_no_compilers_names_and_it_goes_on(
    tiny: Tiny, lab: Lab, trained: Callable[[Train], Run], monkeypatch: pytest.MonkeyPatch
):
    recipe = tiny(compiled="yes", chunked="no", accumulate=2, average=0.5, keep_state=True)
    whole, step = trained(recipe), Trainer.step

    def interrupted(self: Trainer, number: int) -> dict[str, Any]:
        if number == 6:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, number)

    monkeypatch.setattr(Trainer, "step", interrupted)
    with pytest.raises(Interrupted):
        lab.run(recipe)
    monkeypatch.setattr(Trainer, "step", step)
    resumed = lab.run(recipe)
    assert losses(resumed) == pytest.approx(losses(whole), rel=1e-4)
    names = {*resumed.tensors("model.safetensors"), *resumed.tensors("state/checkpoint-000000012.safetensors")}
    assert names
    assert not any("_orig_mod" in name for name in names)
    assert {name.partition(".")[0] for name in resumed.tensors("state/checkpoint-000000012.safetensors")} == {
        "model", "average", "optimiser",
    }  # fmt: skip
    model, _ = etude.load(resumed)
    assert {*model.state_dict()} == {*resumed.tensors("model.safetensors")}
