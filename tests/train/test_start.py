"""Training that begins with another run's weights, or goes on with another training."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from etude.core.errors import Interrupted, UsageError
from etude.core.lab import Lab
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.core.seeds import stream
from etude.core.shelf import differences
from etude.text.corpora.fable import Fable
from etude.text.recipes import Tokens
from etude.text.tokenizers.bpe import BytePair
from etude.text.tokenizers.byte import Byte
from etude.train.objectives.masked import Masked
from etude.train.optimisers.muon import Muon
from etude.train.recipes import At, Train
from etude.train.schedule import Schedule
from etude.train.trainer import Trainer

Tiny = Callable[..., Train]
Trained = Callable[[Recipe], Run]

STEADY = Schedule("constant", peak=1e-2, warmup=3)


def weights(run: Run) -> dict[str, np.ndarray]:
    return run.tensors("model.safetensors")


@pytest.fixture
def masked(labelled: Train) -> Train:
    """A masked model whose trunk is the classifier's."""
    return replace(labelled, objective=Masked(), model=replace(labelled.model, classes=0, tied=True), steps=2)


def test_no_steps_give_the_weights_that_it_starts_with(tiny: Tiny, trained: Trained):
    before = trained(tiny())
    after = trained(tiny(start=tiny(), steps=0, seed=5))
    assert after.files["model.safetensors"] == before.files["model.safetensors"]
    assert after.result["untrained"] == before.result["validation"]
    assert before.id in after.inputs


def test_training_begins_there(tiny: Tiny, trained: Trained):
    """As many fresh steps on trained weights: a lower loss, and another run than either."""
    before, after = trained(tiny()), trained(tiny(start=tiny(), seed=1))
    assert after.record[0]["val_loss"] == before.record[-1]["val_loss"]
    assert after.result["validation"]["loss"]["mean"] < before.result["validation"]["loss"]["mean"]
    assert after.result["steps"] == 12, "the first training's steps are its own"


def test_a_checkpoint_can_be_started_from(tiny: Tiny, trained: Trained):
    run = trained(tiny(start=At(tiny(), step=4), steps=0))
    assert run.files["model.safetensors"] == trained(At(tiny(), step=4)).files["model.safetensors"]


def test_a_classifier_takes_a_masked_models_trunk(masked: Train, labelled: Train, trained: Trained):
    source, begun = weights(trained(masked)), weights(trained(replace(labelled, start=masked, steps=0)))
    fresh = labelled.model.build(trained(masked.data).result["vocabulary"], seed=stream(0, "weights")).state_dict()
    own = {name for name in begun if name.startswith("unembed.")}
    assert own, "the classifier has a head of its own"
    for name, value in begun.items():
        wanted = fresh[name].numpy() if name in own else source[name]
        assert np.array_equal(value, wanted), name
    changed = [name for name in begun if name not in own and not np.array_equal(source[name], fresh[name].numpy())]
    assert changed, "the trunk had been trained"


def test_step_0_is_the_model_before_training(masked: Train, labelled: Train, trained: Trained):
    recipe = replace(labelled, start=masked, steps=2, keep_every=0)
    found = trained(At(recipe, step=0))
    assert found.files["model.safetensors"] == trained(replace(recipe, steps=0)).files["model.safetensors"]
    assert {trained(recipe).id, trained(masked).id} <= set(found.inputs)


def test_step_0_is_brought_back_on_the_cpu(tiny: Tiny, trained: Trained):
    settled = tiny().resolve()
    lab = Lab(trained(settled).path.parent, threads=1, quiet=True)
    elsewhere = At(replace(settled, device="cuda"), step=0)  # a device names no run, so the training is there
    assert lab.run(elsewhere).result["step"] == 0


def test_another_vocabulary(tiny: Tiny, lab: Lab):
    recipe = tiny(data=Tokens(Fable(stories=60), Byte(specials=("mask",))), start=tiny(steps=0))
    with pytest.raises(
        UsageError, match=r"train-\w+ has a vocabulary of 257 and the data of 258: make the data with its tokenizer"
    ):
        lab.run(recipe)


def test_another_tokenizer_of_the_same_size(tiny: Tiny, lab: Lab):
    """Both were trained to 300 tokens, each on its own stories."""
    one, other = (Tokens(Fable(stories=60, seed=seed), BytePair(300)) for seed in (0, 1))
    recipe = tiny(data=other, start=tiny(data=one, steps=0), steps=0)
    with pytest.raises(UsageError, match="reads with another tokenizer of as many tokens, so that no token would mean"):
        lab.run(recipe)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 32}, r"embed\.W_E is \[257, 32\], its own is \[257, 16\]"),
        ({"layers": 2}, r"layers\.1\.\S+ is \[.*\], its own is none"),
        ({"layers": 0}, r"which has no layers\.0\.\S+ \(\[.*\] there\)"),
        ({"positions": "rotary"}, r"which has no embed\.W_pos \(\[16, 16\] there\)"),
        ({"biases": False}, r"which has no \S+b\S* "),
    ],
)
def test_another_trunk(change: dict[str, Any], message: str, tiny: Tiny, lab: Lab):
    with pytest.raises(UsageError, match=rf"train-\w+ does not fit the model.*{message}"):
        lab.run(tiny(start=tiny(steps=0), model=change, steps=0))


EXTENDED: dict[str, dict[str, Any]] = {
    "constant": {},
    "average and dropout": {"average": 0.8, "model": {"dropout": 0.1}},
    "muon": {"optimiser": Muon(), "accumulate": 2},
}


def base(tiny: Tiny, **fields: Any) -> Train:
    return tiny(**{"schedule": STEADY, "steps": 5, "keep_state": True, "evaluate_every": 0, **fields})


def rows(run: Run, after: int) -> list[dict[str, Any]]:
    kept = ({k: v for k, v in row.items() if k != "timing"} for row in run.record)
    return [row for row in kept if row["step"] > after]


@pytest.mark.parametrize("case", EXTENDED)
def test_extended_it_is_the_longer_training(case: str, tiny: Tiny, trained: Trained):
    short = base(tiny, **EXTENDED[case])
    once, more = trained(replace(short, steps=10)), trained(replace(short, steps=10, start=short, extend=True))
    assert weights(once).keys() == weights(more).keys()
    assert more.files["model.safetensors"] == once.files["model.safetensors"]
    assert more.files["state/checkpoint-000000010.safetensors"] == once.files["state/checkpoint-000000010.safetensors"]
    assert rows(more, after=5) == rows(once, after=5)
    assert more.record[0]["step"] == 5, "its record begins where the other's ended"
    same = ("steps", "tokens", "flops", "epochs", "validation")
    assert {name: more.result[name] for name in same} == {name: once.result[name] for name in same}


def test_a_steady_training_is_extended_into_a_fall(tiny: Tiny, trained: Trained):
    """What wsd is for: one steady trunk, and from any of its steps a fall of the rate."""
    short, falling = base(tiny), Schedule("wsd", peak=STEADY.peak, warmup=STEADY.warmup, decay=0.4)
    once = trained(replace(short, steps=10, schedule=falling))
    more = trained(replace(short, steps=10, schedule=falling, start=short, extend=True))
    assert more.files["model.safetensors"] == once.files["model.safetensors"]
    assert [row["learning_rate"] for row in once.record[1:]][:6] == [STEADY.rate(n, 10, 16) for n in range(6)]


def test_an_extension_is_extended(tiny: Tiny, trained: Trained):
    short = base(tiny, steps=4)
    middle = replace(short, steps=7, start=short, extend=True)
    last = trained(replace(short, steps=10, start=middle, extend=True))
    assert last.files["model.safetensors"] == trained(replace(short, steps=10)).files["model.safetensors"]


def test_extended_by_nothing(tiny: Tiny, trained: Trained):
    short = base(tiny)
    run = trained(replace(short, start=short, extend=True))
    assert run.files["model.safetensors"] == trained(short).files["model.safetensors"]
    assert run.result["validation"] == trained(short).result["validation"]


def test_the_state_after_an_early_stop_is_the_last_steps(tiny: Tiny, trained: Trained):
    """The best weights are given; what is gone on with are the last ones, with the optimiser's state that is theirs."""
    shaky: dict[str, Any] = {"schedule": Schedule("constant", peak=0.1, warmup=0), "evaluate_every": 2, "steps": 24}
    short = base(tiny, **shaky, patience=1)
    run = trained(short)
    reached = run.result["steps"]
    assert run.result["best_step"] < reached < 24
    without = trained(base(tiny, **{**shaky, "steps": reached}))
    name = f"state/checkpoint-{reached:09d}.safetensors"
    assert run.files[name] == without.files[name]
    assert run.files["model.safetensors"] != without.files["model.safetensors"]


@pytest.mark.parametrize("taken", [6, 8])
def test_an_extension_that_was_stopped(
    taken: int, tiny: Tiny, trained: Trained, lab: Lab, monkeypatch: pytest.MonkeyPatch
):
    short = base(tiny, model={"dropout": 0.1})
    longer = replace(short, steps=10, start=short, extend=True, evaluate_every=3)
    step = Trainer.step

    def interrupted(self: Trainer, number: int) -> dict[str, Any]:
        if number + 1 == taken:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, number)

    lab.run(short)
    whole = trained(longer)
    monkeypatch.setattr(Trainer, "step", interrupted)
    with pytest.raises(Interrupted, match=f"stopped after step {taken} of 10"):
        lab.run(longer)
    begun: list[int] = []
    monkeypatch.setattr(Trainer, "step", lambda self, number: begun.append(number) or step(self, number))
    assert differences(whole, lab.run(longer)) == {}
    assert begun == list(range(taken, 10))


@pytest.mark.usefixtures("a_checkpoint_every_step")
def test_an_extension_that_dies_before_its_first_step(
    tiny: Tiny, trained: Trained, lab: Lab, monkeypatch: pytest.MonkeyPatch
):
    short = base(tiny)
    longer = replace(short, steps=8, start=short, extend=True)
    lab.run(short)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", lambda self, number: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            lab.run(longer)
    assert differences(trained(longer), lab.run(longer)) == {}


def test_at_a_step_of_an_extension(tiny: Tiny, trained: Trained):
    short = base(tiny, keep_every=2)
    longer = replace(short, steps=8, start=short, extend=True)
    whole = trained(replace(short, steps=8))
    for step in (6, 8):
        name = f"steps/{step:09d}/model.safetensors"
        assert trained(At(longer, step=step)).files["model.safetensors"] == whole.files[name]
    assert trained(At(longer, step=0)).files["model.safetensors"] == trained(short).files["model.safetensors"]
    with pytest.raises(UsageError, match="step 4 was taken before step 5, by the training that is extended: ask it"):
        At(longer, step=4)


def test_an_extension_needs_a_training_with_its_state(tiny: Tiny, labelled: Train):
    for start in (None, tiny(), At(tiny(keep_state=True), step=4)):
        with pytest.raises(UsageError, match="made with --keep-state: name one with --start"):
            tiny(start=start, extend=True)


@pytest.mark.parametrize(
    ("field", "value"),
    [("batch", 8), ("seed", 1), ("clip", 0.5), ("average", 0.5), ("precision", "bf16"), ("accumulate", 2)],
)
def test_an_extension_differs_in_nothing_else(field: str, value: Any, tiny: Tiny):
    short = base(tiny)
    with pytest.raises(UsageError, match=rf"{field} = {value} differs from \S+ in the training that is extended: only"):
        replace(short, start=short, extend=True, **{field: value})
    with pytest.raises(UsageError, match=r"model = .* differs from .* in the training that is extended"):
        replace(short, start=short, extend=True, model=replace(short.model, dropout=0.5))


def test_an_extension_is_no_shorter(tiny: Tiny):
    short = base(tiny)
    with pytest.raises(UsageError, match="steps = 4 is less than the 5 that the extended training took"):
        replace(short, start=short, extend=True, steps=4)


def test_what_an_extension_may_choose(tiny: Tiny):
    short = base(tiny)
    free = {"evaluate_every": 1, "evaluate_tokens": 64, "keep_every": 1, "keep_state": False, "device": "cuda"}
    assert replace(short, start=short, extend=True, steps=9, schedule=Schedule(), **free).extend


@pytest.mark.parametrize("settled", [True, False])
def test_an_extension_leaves_to_the_machine_what_was_left_to_it(
    settled: bool, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
):
    """Whatever this machine would choose, it goes on as it was begun, elsewhere maybe."""
    open_choices = {"precision": "auto", "compiled": "auto", "chunked": "auto", "recompute": "auto"}
    short = base(tiny, **open_choices, optimiser=Muon())
    for module in ("etude.train.choices", "etude.train.optimisers.muon"):
        monkeypatch.setattr(f"{module}.multiplies_bf16", lambda: True)
    begun = short.resolve()
    if settled:
        for module in ("etude.train.choices", "etude.train.optimisers.muon"):
            monkeypatch.setattr(f"{module}.multiplies_bf16", lambda: False)
    more = replace(short, start=begun if settled else short, extend=True, steps=9).resolve()
    assert more.start == begun
    assert (more.precision, more.optimiser) == ("bf16", Muon(precision="bf16"))
    assert more.resolve() == more
    assert more.fingerprint()
    with pytest.raises(UsageError, match="precision = fp32 differs from bf16"):
        replace(short, start=begun, extend=True, steps=9, precision="fp32")


def test_frozen_weights_stay_as_they_came_and_the_others_learn(masked: Train, labelled: Train, trained: Trained):
    """Under both kinds of optimiser, weight decay among them, and whatever the seed."""
    source = weights(trained(masked))
    for optimiser in (labelled.optimiser, Muon()):
        run = trained(replace(labelled, start=masked, freeze=True, seed=3, optimiser=optimiser))
        found, moving = weights(run), weights(trained(replace(labelled, start=masked, seed=3, optimiser=optimiser)))
        shared = [name for name in source if name in found and not name.startswith("unembed.")]
        assert shared and all(np.array_equal(found[name], source[name]) for name in shared)
        assert not all(np.array_equal(moving[name], source[name]) for name in shared)
        head = [name for name in found if name.startswith("unembed.")]
        fresh = weights(trained(replace(labelled, start=masked, freeze=True, seed=3, steps=0, optimiser=optimiser)))
        assert head and all(not np.array_equal(found[name], fresh[name]) for name in head)


def test_freezing_needs_weights_to_begin_with(labelled: Train):
    with pytest.raises(UsageError, match="freeze keeps the weights that --start brings, and there is none"):
        replace(labelled, freeze=True)
