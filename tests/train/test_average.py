"""The running mean of the weights: what it is, that it is what is given, and that without it nothing is there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import etude
from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.run import Run
from etude.core.seeds import stream
from etude.evals.loss import chosen_windows, score
from etude.text.batches import Windows
from etude.text.data import TextData
from etude.train.checkpoint import load_state, saved_steps
from etude.train.recipes import At, Train
from etude.train.trainer import Trainer

Tiny = Callable[..., Train]
Trained = Callable[[Train], Run]

FEW = {"steps": 4, "keep_every": 1, "evaluate_every": 2}


def weights(run: Run, name: str = "model.safetensors") -> dict[str, np.ndarray]:
    return run.tensors(name)


@pytest.fixture
def plain(tiny: Tiny, trained: Trained) -> Run:
    return trained(tiny(**FEW))


@pytest.fixture
def averaged(tiny: Tiny, trained: Trained) -> Run:
    return trained(tiny(average=0.75, **FEW))


def test_it_is_the_running_mean_of_what_the_weights_were(plain: Run, averaged: Run, tiny: Tiny):
    """The mean begins with the starting weights, and is itself kept at every step, while the training goes its way."""
    start = tiny().model.build(257, seed=stream(0, "weights"))
    mean = {name: value.numpy() for name, value in start.state_dict().items()}
    for step in range(1, 5):
        passed = weights(plain, f"steps/{step:09d}/model.safetensors")
        mean = {name: 0.75 * value + 0.25 * passed[name] for name, value in mean.items()}
        kept = weights(averaged, f"steps/{step:09d}/model.safetensors")
        for name, value in mean.items():
            np.testing.assert_allclose(kept[name], value, rtol=1e-5, atol=1e-7, err_msg=f"{name} after step {step}")
    assert plain.files["model.safetensors"] != averaged.files["model.safetensors"]
    learned = ("loss", "gradient_norm")
    assert [[row.get(name) for name in learned] for row in plain.record] == [
        [row.get(name) for name in learned] for row in averaged.record
    ], "averaging changes nothing of the training"


def test_it_is_what_is_given_and_evaluated(averaged: Run):
    assert averaged.files["model.safetensors"] == averaged.files["steps/000000004/model.safetensors"]
    model, _ = etude.load(averaged)
    data = TextData.open(Run(averaged.path.parent / averaged.inputs[0]))
    examples = data.examples("valid", 16)
    found = score(model, examples, chosen_windows(examples, 256)).summary(None)
    for said in (averaged.result["validation"]["loss"]["mean"], averaged.record[-1]["val_loss"]):
        assert said == pytest.approx(found["loss"]["mean"], rel=1e-6)


def test_at_a_step_it_is_the_mean_of_that_step(averaged: Run, tiny: Tiny):
    lab = Lab(averaged.path.parent, threads=1, quiet=True)
    for step in (2, 4):
        run = lab.run(At(tiny(average=0.75, **FEW), step=step))
        assert run.files["model.safetensors"] == averaged.files[f"steps/{step:09d}/model.safetensors"]


def test_none_leaves_no_trace(tiny: Tiny, lab: Lab):
    states = {}
    for share in (0.0, 0.5):
        run = lab.run(tiny(average=share, steps=2, keep_state=True))
        (step,) = saved_steps(run.path / "state")
        states[share] = load_state(run.path / "state" / f"checkpoint-{step:09d}.safetensors")
    names = {share: {name.partition(".")[0] for name in state.tensors} for share, state in states.items()}
    assert names == {0.0: {"model", "optimiser"}, 0.5: {"model", "optimiser", "average"}}
    assert states[0.0].tensors.keys() == {n for n in states[0.5].tensors if not n.startswith("average.")}


def test_none_costs_nothing(tiny: Tiny, trained: Trained):
    recipe = tiny().resolve()
    data = TextData.open(trained(recipe.data))  # type: ignore[arg-type]
    trainer = Trainer(recipe, recipe.model.build(257), Windows(data.store("train"), 16, data.tokenizer.end), 0.0)
    assert trainer.average is None
    assert trainer.given is trainer.model


def test_the_mean_takes_no_gradient(tiny: Tiny, trained: Trained):
    recipe = tiny(average=0.5).resolve()
    data = TextData.open(trained(recipe.data))  # type: ignore[arg-type]
    trainer = Trainer(recipe, recipe.model.build(257), Windows(data.store("train"), 16, data.tokenizer.end), 0.0)
    trainer.step(0)
    assert trainer.average is not None
    assert all(p.grad is None and not p.requires_grad for p in trainer.average.parameters())


@pytest.mark.parametrize("share", [-0.1, 1.0, 2.0])
def test_a_share_that_is_none(share: float):
    with pytest.raises(UsageError, match=f"average = {share} is not a share from 0 to below 1"):
        Train(average=share)
