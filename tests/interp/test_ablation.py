"""Ablated heads: those of whole runs with functions put at z, and the heads of a planted circuit."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from etude.core.errors import UsageError
from etude.evals.behaviours import head_scores, repeats
from etude.interp.ablation import WAYS, ablate_heads, ablated, derangement
from etude.interp.metrics import LogitDifference, Loss
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.models.decoder_model import DecoderModel
from etude.models.planted import planted
from etude.nn.attention.sliding import Sliding
from etude.nn.look import look

V, T, N = 13, 6, 3
SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": {"tied": True},
    "2017": {"norm_at": "post", "positions": "sinusoidal", "activation": "relu"},
    "llama": {"positions": "rotary", "norm": "rms", "kv_heads": 2, "gated": True, "biases": False},
    "neox": {"positions": "rotary", "parallel": True, "attention": Sliding(window=3)},
    "attention-only": {"feedforward": 0, "norm": "none"},
}


def lively(shape: dict[str, Any], seed: int = 0) -> DecoderModel:
    """Build a model whose weights are large enough that every part matters, in double precision."""
    spec = Decoder(**{"layers": 2, "width": 16, "heads": 4, "feedforward": 24, "context": 9, **shape})
    model, generator = spec.build(V).eval(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    return cast(DecoderModel, model.double())


def texts(count: int = N, length: int = T, seed: int = 0) -> Tensor:
    return torch.randint(V, (count, length), generator=torch.Generator().manual_seed(seed))


def without(model: DecoderModel, tokens: Tensor, layer: int, head: int, new: Tensor) -> Tensor:
    """Return the logits of a whole run with one head's z [N T K] exchanged."""

    def put(z: Tensor) -> Tensor:
        return torch.cat((z[:, :, :head], new.expand(*z.shape[:2], -1)[:, :, None], z[:, :, head + 1 :]), 2)

    with model.tapped({f"L{layer}.attn.z": put}):
        return model(tokens)


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
@pytest.mark.parametrize("reference", [None, texts(4, T, seed=1)], ids=["themselves", "others"])
@pytest.mark.parametrize("how", WAYS)
def test_each_head_is_ablated_as_by_a_whole_run(how: str, reference: Tensor | None, shape: dict[str, Any]) -> None:
    model, tokens = lively(shape), texts()
    metric = LogitDifference(torch.tensor([1, 2, 3]), 4, position=-2)
    found = ablate_heads(model, tokens, metric, how, reference, seed=3, at_once=20)
    assert found.values.shape == (2, 4, N)
    torch.testing.assert_close(found.base, metric(model(tokens)))
    source = tokens if reference is None else reference
    for layer in range(2):
        z = look(model, source, f"L{layer}.attn.z")[f"L{layer}.attn.z"]
        for head in range(4):
            value = found.values[layer, head]
            if how != "resample":
                mean = torch.stack([z[n, t, head] for n in range(len(z)) for t in range(T)]).mean(0)
                new = mean if how == "mean" else torch.zeros_like(mean)
                expected = metric(without(model, tokens, layer, head, new))
                torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9)
                continue
            every = torch.stack([metric(without(model, tokens, layer, head, row[:, head])) for row in z])  # [R N]
            fits = torch.isclose(every, value, rtol=1e-9, atol=1e-9)
            assert fits.any(0).all(), "each text has the z of some text of the reference"
            assert (fits.sum(0) == 1).all()
            order = fits.int().argmax(0).tolist()
            assert len(set(order)) == N and all(taken != n for n, taken in enumerate(order))
    assert found.effects.abs().min() > 1e-6 and found.effects.std() > 0.01


@given(st.integers(2, 40), st.integers(0, 2**40))
def test_nobody_is_resampled_as_itself(count: int, seed: int) -> None:
    order = derangement(count, seed).tolist()
    assert sorted(order) == list(range(count))
    assert all(taken != place for place, taken in enumerate(order))
    assert derangement(count, seed).tolist() == order


def test_seeds_give_other_partners() -> None:
    model, tokens = lively({}), texts(6)
    one, other, again = (ablate_heads(model, tokens, Loss(tokens), "resample", seed=s).values for s in (0, 1, 0))
    assert torch.equal(one, again)
    assert not torch.isclose(one, other).all()


def test_more_texts_than_references_take_them_in_turn() -> None:
    model, tokens, reference = lively({}), texts(4), texts(2, seed=9)
    metric = LogitDifference(1, 2)
    found = ablate_heads(model, tokens, metric, "resample", reference)
    first, second = (ablate_heads(model, tokens[rows], metric, "resample", reference) for rows in ([0, 1], [2, 3]))
    torch.testing.assert_close(found.values, torch.cat((first.values, second.values), -1))


@pytest.mark.parametrize("how", WAYS)
def test_in_a_planted_circuit_two_heads_matter_and_two_do_nothing(how: str) -> None:
    """The loss on what has been read before: without the previous-token or the induction head all is lost."""
    model, sequences = planted(16, 32, back=11), repeats(12, 32, 16, seed=0)
    tokens, periods = torch.from_numpy(sequences.tokens), torch.from_numpy(sequences.period)
    known = torch.arange(31) >= periods[:, None]

    def loss(logits: Tensor) -> Tensor:
        each = -logits[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None]).squeeze(-1)
        return (each * known).sum(1) / known.sum(1)

    found = ablate_heads(model, tokens, loss, how)
    assert found.base.max() < 1e-3
    assert found.values[0, 0].min() > 1.0 and found.values[1, 0].min() > 1.0
    torch.testing.assert_close(found.values[:, 1], found.base.expand(2, -1), rtol=0, atol=1e-6)


@torch.no_grad()
def test_several_heads_at_once_for_any_measure() -> None:
    model, sequences = planted(16, 32, back=11), repeats(12, 32, 16, seed=0)
    tokens = torch.from_numpy(sequences.tokens)
    for how, reference, nothing_known in (("zero", None, np.log(16)), ("mean", tokens, 2.6)):
        with model.tapped(ablated(model, [(0, 1), (1, 1)], how, reference)):
            assert head_scores(model, sequences, batch=5).repeated_loss.max() < 1e-3
        with model.tapped(ablated(model, [(0, 1), (1, 0), (1, 1)], how, reference)):
            lost = head_scores(model, sequences, batch=5).repeated_loss
        assert lost.mean() > nothing_known - 1e-3
    assert model.watchers == 0


@torch.no_grad()
@pytest.mark.parametrize("how", WAYS)
def test_one_head_by_edits_is_that_head_of_the_sweep(how: str) -> None:
    model, tokens, reference = lively(SHAPES["llama"]), texts(), texts(4, seed=2)
    metric = LogitDifference(1, 2)
    found = ablate_heads(model, tokens, metric, how, reference, seed=5)
    for layer, head in ((0, 3), (1, 1)):
        with model.tapped(ablated(model, [(layer, head)], how, reference, seed=5)):
            torch.testing.assert_close(metric(model(tokens)), found.values[layer, head], rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_all_heads_at_once_leave_what_attention_adds_to_any_text() -> None:
    model, tokens = lively({}), texts()
    every = [(layer, head) for layer in range(2) for head in range(4)]
    with model.tapped(ablated(model, [*every, *every])):
        seen = look(model, tokens, ["L*.attn.out"])
    for layer in range(2):
        bias = model.get_parameter(f"layers.{layer}.attn.b_O")
        torch.testing.assert_close(seen[f"L{layer}.attn.out"], bias.expand(N, T, -1))
    with model.tapped(ablated(model, [])):
        one = model(tokens)
    assert torch.equal(one, model(tokens))


def test_stand_ins_are_read_from_the_whole_model() -> None:
    """The mean of a later head is not that of a model which has lost an earlier one."""
    model, tokens = lively({}), texts()
    both, late = (ablated(model, heads, "mean", tokens) for heads in ([(0, 0), (1, 1)], [(1, 1)]))
    z = torch.randn(N, T, 4, 4, dtype=torch.double)
    assert torch.equal(both["L1.attn.z"](z), late["L1.attn.z"](z))
    assert torch.equal(late["L1.attn.z"](z)[:, :, [0, 2, 3]], z[:, :, [0, 2, 3]])


@torch.no_grad()
def test_heads_of_an_encoder_are_ablated_by_edits() -> None:
    spec = Encoder(layers=2, width=16, heads=2, feedforward=24, context=8)
    model, tokens = spec.build(V).eval(), texts()
    with model.tapped(ablated(model, [(1, 0)], "mean", tokens)):
        z = look(model, tokens, "L1.attn.z")["L1.attn.z"]
    whole = look(model, tokens, "L1.attn.z")["L1.attn.z"]
    torch.testing.assert_close(z[:, :, 0], whole[:, :, 0].mean((0, 1)).expand(N, T, -1))
    torch.testing.assert_close(z[:, :, 1], whole[:, :, 1])


def test_what_cannot_be_ablated_is_said_in_one_line() -> None:
    model, tokens, metric = lively({}), texts(), LogitDifference(1, 2)
    for asked, message in (
        ({"how": "mena"}, "unknown way of ablating 'mena': did you mean 'mean'?"),
        ({"how": "resample", "reference": texts(1)}, "the reference is 1: give two or more"),
        (
            {"how": "resample", "reference": texts(3, T - 1)},
            "texts of 6 tokens cannot be resampled from a reference of 5",
        ),
        ({"how": "mean", "reference": texts(3, 10)}, "text of 10 tokens is longer than the model's context of 9"),
        ({"at_once": 0}, "at_once = 0"),
    ):
        with pytest.raises(UsageError, match=message) as error:
            ablate_heads(model, tokens, metric, **cast(Any, asked))
        assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="no heads to ablate"):
        ablate_heads(lively({"layers": 0}), tokens, metric)
    with pytest.raises(UsageError, match="reads decoders, and the model is an encoder"):
        ablate_heads(Encoder(layers=1, width=8, heads=1, context=8).build(V), tokens, metric)
    for heads in ([(2, 0)], [(0, 4)], [(-1, 0)], [(0, 0), (1, -2)]):
        with pytest.raises(UsageError, match="the model has 2 layers of 4 heads, counted from 0"):
            ablated(model, heads)
    with pytest.raises(UsageError, match="how = 'mean' needs a reference"):
        ablated(model, [(0, 0)], "mean")
    with pytest.raises(UsageError, match="unknown way of ablating"):
        ablated(model, [(0, 0)], "none")
    edits = ablated(model, [(0, 0)], "resample", texts())
    with model.tapped(edits), pytest.raises(UsageError, match="texts of 4 tokens cannot be resampled"):
        model(texts(2, 4))
