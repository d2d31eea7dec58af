"""Training on a mix: the validation loss of each part."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import etude
from etude.core.run import Run
from etude.evals.loss import chosen_windows
from etude.evals.statistics import ratio
from etude.text.corpora.brackets import Brackets
from etude.text.corpora.fable import Fable
from etude.text.corpora.mix import Mix, Part
from etude.text.data import TextData
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte
from etude.train.recipes import Train

MIX = Mix(parts=(Part(Fable(seed=3, stories=60), 0.7), Part(Brackets(problems=300), 0.3)))


@pytest.fixture
def run(tiny: Callable[..., Train], trained: Callable[[Train], Run]) -> Run:
    return trained(tiny(data=Tokens(MIX, Byte()), evaluate_tokens=0, evaluate_every=6))


def test_each_part_by_hand(run: Run):
    """Every target's loss, added to the part of the document that the token lies in."""
    model, _ = etude.load(run)
    data = TextData.open(Run(run.path.parent / run.inputs[0]))
    store, examples = data.store("valid"), data.examples("valid", 16)
    owner = np.repeat(np.asarray(store.labels), np.diff(np.asarray(store.documents)).astype(int))
    sums, counts = np.zeros((len(examples), 2)), np.zeros((len(examples), 2))
    for n, window in enumerate(chosen_windows(examples, 0)):
        batch = examples.batch(np.array([window]))
        with torch.no_grad():
            logp = model(torch.from_numpy(batch.inputs)).log_softmax(-1)[0].double()
        for t, token in enumerate(batch.targets[0]):
            part = owner[window * 16 + t + 1]
            sums[n, part] -= float(logp[t, token])
            counts[n, part] += 1
    parts = run.result["validation"]["parts"]
    assert list(parts) == ["fable", "brackets"]
    for number, (name, part) in enumerate(parts.items()):
        wanted = ratio(sums[:, number], counts[:, number])
        assert part["tokens"] == counts[:, number].sum()
        assert part["loss"] == pytest.approx(wanted.to_json(), rel=1e-5), name
    assert ((counts[:, 0] > 0) & (counts[:, 1] > 0)).any(), "a window reaches from one part into the other"


def test_the_parts_make_the_whole(run: Run):
    for which in ("validation", "untrained"):
        whole, parts = run.result[which], run.result[which]["parts"].values()
        assert sum(part["tokens"] for part in parts) == whole["tokens"]
        mean = sum(part["loss"]["mean"] * part["tokens"] for part in parts) / whole["tokens"]
        assert mean == pytest.approx(whole["loss"]["mean"])
    sums = run.tensors("validation.safetensors")
    np.testing.assert_allclose(sums["part_loss"].sum(1), sums["loss"], rtol=1e-12)
    assert np.array_equal(sums["part_count"].sum(1), sums["count"])


def test_the_record_follows_each_part(run: Run):
    scored = [row for row in run.record if "val_loss" in row]
    for name in ("fable", "brackets"):
        losses = [row[f"val_loss_{name}"] for row in scored]
        assert len(losses) == 3
        assert losses[-1] == run.result["validation"]["parts"][name]["loss"]["mean"] < losses[0]


def test_a_part_that_no_window_has(tiny: Callable[..., Train], trained: Callable[[Train], Run]):
    """One window is read, at the start of the validation split, where the second part has nothing yet."""
    run = trained(tiny(data=Tokens(MIX, Byte()), evaluate_tokens=16, steps=1, keep_every=0))
    parts = run.result["validation"]["parts"]
    assert (parts["fable"]["tokens"], parts["brackets"]) == (16, {"loss": None, "tokens": 0})
    assert "val_loss_brackets" not in run.record[-1]


def test_a_corpus_that_is_no_mix_has_no_parts(tiny: Callable[..., Train], trained: Callable[[Train], Run]):
    run = trained(tiny())
    assert "parts" not in run.result["validation"]
    assert not any(name.startswith("part_") for name in run.tensors("validation.safetensors"))


def test_a_classifier_of_a_mix_has_no_parts(labelled: Train, trained: Callable[[Train], Run]):
    assert "parts" not in trained(labelled).result["validation"]
