"""Integrated gradients against their axioms and a plain sum; attribution patching against patching itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from etude.core.errors import UsageError
from etude.interp.gradients import attribution_patching, integrated_gradients
from etude.interp.metrics import Divergence, LogitDifference, LogProbability, Loss, Metric
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.models.decoder_model import DecoderModel
from etude.models.planted import CERTAIN, planted
from etude.nn.look import look

V, T = 11, 8
LINEAR = {"norm": "none", "feedforward": 0, "biases": False}
SMOOTH: dict[str, dict[str, Any]] = {
    "gpt2": {"tied": True},
    "rms, rotary, gated": {"norm": "rms", "positions": "rotary", "gated": True, "activation": "silu"},
    "post-norm, scaled": {"norm_at": "post", "scaled_embeddings": True},
    "attention-only": {"feedforward": 0},
}


def built(scale: float = 0.2, **fields: Any) -> DecoderModel:
    """A model in fp64 whose every weight is far from where it would start."""
    spec = Decoder(**{"layers": 2, "width": 16, "heads": 4, "feedforward": 24, "context": T, **fields})
    model = spec.build(V).eval()
    assert isinstance(model, DecoderModel)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(scale * torch.randn(weight.shape, generator=draw))
    return model.double()


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(V, shape, generator=torch.Generator().manual_seed(seed))


TOKENS, OTHER = drawn(2, T), drawn(2, T, seed=5)


# Integrated gradients


METRICS: dict[str, Metric] = {"logit": LogitDifference(3, 5), "logp": LogProbability(2), "loss": Loss(TOKENS)}


@pytest.mark.parametrize(
    ("architecture", "measure"), [*((name, "logp") for name in SMOOTH), ("gpt2", "logit"), ("gpt2", "loss")]
)
def test_the_scores_sum_to_the_change(architecture: str, measure: str):
    model, metric = built(**SMOOTH[architecture]), METRICS[measure]
    few, some, many = (integrated_gradients(model, TOKENS, metric, points=n) for n in (1, 4, 32))
    assert some.completeness.max() < few.completeness.max(), "the error falls with the points"
    assert many.completeness.max() < 1e-2 * some.completeness.max()
    for found in (few, some, many):
        torch.testing.assert_close((found.scores.sum(1) - found.change).abs(), found.completeness)
        assert found.scores.shape == (2, T)


def test_the_change_is_from_the_baseline_to_the_texts():
    model, metric = built(scaled_embeddings=True), LogitDifference(3, 5)
    mean = 4.0 * model.embed.W_E.detach().mean(0)
    for baseline, vectors in (("mean", mean), ("zero", torch.zeros(16).double()), (mean + 1, mean + 1)):
        found = integrated_gradients(model, TOKENS, metric, baseline, points=2)
        with model.tapped({"embed.tokens": lambda x, vectors=vectors: vectors.expand_as(x).clone()}):
            start = metric(model(TOKENS).detach())
        torch.testing.assert_close(found.change, metric(model(TOKENS).detach()) - start)


def test_they_are_the_mean_gradient_along_the_line():
    """A plain sum at 100 equal steps, as in section 5 of the paper."""
    model, metric = built(), LogProbability(4)
    end = model.embed.W_E[TOKENS].detach()
    total = torch.zeros_like(end)
    for step in range(100):
        x = ((step + 0.5) / 100 * end).requires_grad_()
        with model.tapped({"embed.tokens": lambda _, x=x: 1.0 * x}):
            metric(model(TOKENS)).sum().backward()
        assert x.grad is not None
        total += x.grad / 100
    found = integrated_gradients(model, TOKENS, metric, "zero")
    torch.testing.assert_close(found.scores, (total * end).sum(-1), atol=1e-3, rtol=1e-3)


def test_of_a_linear_model_one_point_is_enough():
    model = built(layers=0, norm="none")
    found = integrated_gradients(model, TOKENS, LogitDifference(3), "zero", points=1)
    assert (found.completeness < 1e-12).all()
    logits = model.embed.W_E[TOKENS[:, -1]] @ model.unembedding()[0]
    torch.testing.assert_close(found.scores[:, -1], logits[:, 3].detach())


def test_what_the_metric_cannot_see_scores_nothing():
    found = integrated_gradients(built(), TOKENS, LogitDifference(3, 5, position=-3), points=4)
    assert (found.scores[:, -2:] == 0).all() and (found.scores[:, :-2] != 0).all()
    alone = integrated_gradients(built(), TOKENS[:, :-2], LogitDifference(3, 5), points=4)
    torch.testing.assert_close(found.scores[:, :-2], alone.scores)


def test_a_text_that_is_its_own_baseline_scores_nothing():
    model = built()
    found = integrated_gradients(model, TOKENS, LogitDifference(3), model.embed.W_E[TOKENS], points=3)
    assert not found.scores.any() and not found.change.any()


def test_texts_do_not_interact():
    model, tokens = built(), drawn(3, T)
    whole = integrated_gradients(model, tokens, LogProbability(torch.tensor([1, 2, 3])))
    for row in range(3):
        alone = integrated_gradients(model, tokens[row : row + 1], LogProbability(row + 1))
        torch.testing.assert_close(whole.scores[row : row + 1], alone.scores)


def test_a_metric_may_give_one_number_for_all_texts():
    model = built()
    each = integrated_gradients(model, TOKENS, LogitDifference(3))
    one = integrated_gradients(model, TOKENS, lambda logits: logits[:, -1, 3].sum())
    torch.testing.assert_close(one.scores, each.scores)
    torch.testing.assert_close(one.change, each.change.sum()[None])
    assert one.completeness.shape == (1,) and float(one.completeness) < 1e-6


@pytest.mark.parametrize("frozen", [False, True])
def test_the_model_is_left_alone(frozen: bool):
    model = built().requires_grad_(not frozen)
    integrated_gradients(model, TOKENS, LogitDifference(3), points=2)
    attribution_patching(model, TOKENS, OTHER, LogitDifference(3), ["L0.attn.out", "embed.*", "L1.attn.pattern"])
    assert all(weight.grad is None and weight.requires_grad != frozen for weight in model.parameters())
    assert model.watchers == 0


# Attribution patching


def patched(
    model: DecoderModel, tokens: Tensor, edits: dict[str, Callable[[Tensor], Tensor]], metric: Metric
) -> Tensor:
    with torch.no_grad(), model.tapped(edits):
        return metric(model(tokens)).sum()


@pytest.mark.parametrize("direction", ["denoising", "noising"])
def test_it_is_exact_where_the_model_is_linear(direction: str):
    """No norm, no feed-forward, and patterns held: the logits are then linear in every value that a head writes."""
    model, metric = built(**LINEAR), LogitDifference(3, 5)
    patterns = look(model, drawn(1, T, seed=9), "L*.attn.pattern")
    held = {str(site): lambda p, held=pattern: held.expand_as(p).clone() for site, pattern in patterns.items()}
    source, base = (TOKENS, OTHER) if direction == "denoising" else (OTHER, TOKENS)
    sites = ["embed.tokens", "L0.attn.v", "L0.attn.head_out", "L1.attn.z", "L1.resid.pre", "L1.resid.post", "logits"]
    with model.tapped(held):
        found = attribution_patching(model, TOKENS, OTHER, metric, sites, direction)
        there = look(model, source, sites)
        start = metric(model(base).detach()).sum()
        for site in sites:
            effect = patched(model, base, {site: lambda _, site=site: there[site]}, metric) - start
            torch.testing.assert_close(found[site].sum(), effect, atol=1e-9, rtol=0)
        for t, head in [(0, 1), (4, 0), (7, 3)]:

            def one(x: Tensor, t: int = t, head: int = head) -> Tensor:
                return x.index_put(
                    (torch.tensor(0), torch.tensor(t), torch.tensor(head)), there["L0.attn.v"][0, t, head]
                )

            effect = patched(model, base, {"L0.attn.v": one}, metric) - start
            torch.testing.assert_close(found["L0.attn.v"][0, t, head].sum(), effect, atol=1e-9, rtol=0)


SITES = ["embed.tokens", "embed.out", "L0.attn.q", "L0.attn.k", "L0.attn.v", "L0.attn.scores", "L0.attn.pattern",
         "L0.attn.head_out", "L0.attn_norm.scale", "L0.resid.mid", "L0.mlp.pre", "L0.mlp.post", "L1.attn.z",
         "L1.resid.pre", "final_norm.out"]  # fmt: skip


@pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))
def test_it_is_what_patching_a_little_of_the_difference_does(metric: Metric):
    """The slope of real patching at 0, by central differences, at each site by itself."""
    model, small = built(), 1e-5
    found = attribution_patching(model, TOKENS, OTHER, metric, SITES)
    source = look(model, TOKENS, SITES)
    for site in SITES:

        def towards(x: Tensor, share: float, site: str = site) -> Tensor:
            return x + share * (source[site] - x)

        up, down = (
            patched(model, OTHER, {site: lambda x, share=share, f=towards: f(x, share)}, metric)
            for share in (small, -small)
        )
        torch.testing.assert_close(found[site].sum(), (up - down) / (2 * small), atol=1e-7, rtol=1e-5)
        assert found[site].shape == source[site].shape
        assert found[site].sum().abs() > 1e-6, f"{site} does nothing, and nothing was tested"


@settings(deadline=None, max_examples=8)
@given(clean=st.integers(0, 2**30), corrupted=st.integers(0, 2**30))
def test_the_two_directions_differ_in_the_run_whose_gradient_is_taken(clean: int, corrupted: int):
    """Turning round the texts and the direction together is the same estimate."""
    one, other = drawn(1, T, seed=clean), drawn(1, T, seed=corrupted)
    metric = Divergence(_MODEL(drawn(1, T)).detach())
    there = attribution_patching(_MODEL, one, other, metric, "L*.resid.*", "denoising")
    back = attribution_patching(_MODEL, other, one, metric, "L*.resid.*", "noising")
    assert list(there) == list(back) and all(torch.equal(there[site], back[site]) for site in there)


_MODEL = built()


def test_the_planted_circuit_is_found():
    """The texts differ in the token behind the first 5, which the induction head brings to the last position."""
    model, metric = planted(16, 32), LogitDifference(7, 9)
    clean = torch.tensor([[3, 5, 7, 11, 2, 3, 5]])
    corrupted = clean.clone()
    corrupted[0, 2] = 9
    found = attribution_patching(model, clean, corrupted, metric, ["L*.attn.head_out", "L1.attn.v", "embed.tokens"])
    by_head = found["L1.attn.head_out"][0].sum(-1)
    assert float(by_head[-1, 0]) == pytest.approx(2 * CERTAIN, abs=1e-3)
    assert by_head.abs().sum() == pytest.approx(2 * CERTAIN, abs=1e-3), "the induction head at the end, and it alone"
    by_position = found["L1.attn.v"][0].sum(-1)
    assert float(by_position[2, 0]) == pytest.approx(2 * CERTAIN, abs=1e-3)
    assert by_position.abs().sum() == pytest.approx(2 * CERTAIN, abs=1e-3), "from behind the last occurrence"
    assert found["L0.attn.head_out"].abs().max() < 1e-3
    real = look(model, clean, "L1.attn.head_out")["L1.attn.head_out"]
    effect = patched(model, corrupted, {"L1.attn.head_out": lambda _: real}, metric)
    assert float(effect - metric(model(corrupted).detach()).sum()) == pytest.approx(2 * CERTAIN, abs=1e-3)
    scores = integrated_gradients(model, clean, metric, baseline=model.embed.W_E[corrupted]).scores[0]
    assert scores.tolist() == pytest.approx([0, 0, 2 * CERTAIN, 0, 0, 0, 0], abs=1e-3)


def test_weights_are_left_out():
    model = built()
    found = attribution_patching(model, TOKENS, OTHER, LogitDifference(3), "L0.mlp.*")
    assert list(found) == ["L0.mlp.pre", "L0.mlp.post", "L0.mlp.out"]


BAD: list[tuple[Callable[..., Any], dict[str, Any], str]] = [
    (integrated_gradients, {"points": 0}, "points = 0: the quadrature needs 1 or more"),
    (integrated_gradients, {"baseline": "means"}, "unknown baseline 'means': did you mean 'mean'"),
    (integrated_gradients, {"baseline": torch.zeros(3)}, r"a baseline of \[3\] does not broadcast to \[2, 8, 16\]"),
    (integrated_gradients, {"tokens": torch.zeros(1, 9, dtype=torch.long)}, "a text of 9 tokens is longer"),
    (integrated_gradients, {"tokens": torch.full((1, 2), V)}, "token 11 is outside the vocabulary of 11"),
    (integrated_gradients, {"metric": lambda x: x.argmax(-1)[:, -1].double()}, "the metric has no gradient"),
    (attribution_patching, {"metric": lambda x: x.argmax(-1)[:, -1].double()}, "the metric has no gradient"),
    (attribution_patching, {"metric": lambda x: x}, r"the metric returned \[2, 8, 11\]: it returns one number"),
    (attribution_patching, {"sites": "L0.attn.W_O"}, "L0.attn.W_O is a weight, which both runs share"),
    (attribution_patching, {"sites": "L2.attn.z"}, "unknown site 'L2.attn.z': the model has 2 layers"),
    (
        attribution_patching,
        {"clean": TOKENS[:, :5]},
        r"clean texts of shape \[2, 5\] and corrupted ones of \[2, 8\]: a patch goes from each position to the same",
    ),
    (attribution_patching, {"corrupted": torch.full((2, T), -1)}, "token -1 is outside the vocabulary"),
    (attribution_patching, {"direction": "noise"}, "unknown direction 'noise': did you mean 'noising'"),
]


@pytest.mark.parametrize(("call", "given", "message"), BAD, ids=[message[:30] for _, _, message in BAD])
def test_what_cannot_be_measured_is_said_in_one_line(call: Callable[..., Any], given: dict[str, Any], message: str):
    usual: dict[str, Any] = {"tokens": TOKENS, "metric": LogitDifference(3)}
    if call is attribution_patching:
        usual = {"clean": TOKENS, "corrupted": OTHER, "metric": LogitDifference(3), "sites": "L0.attn.z"}
    with pytest.raises(UsageError, match=message) as caught:
        call(built(), **{**usual, **given})
    assert "\n" not in str(caught.value)


def test_an_encoder_is_refused():
    model = Encoder(layers=1, width=16, heads=2, feedforward=32, context=12).build(V).eval()
    with pytest.raises(UsageError, match="the model is an encoder: choose a decoder"):
        integrated_gradients(model, TOKENS, LogitDifference(3))
    with pytest.raises(UsageError, match="the model is an encoder: choose a decoder"):
        attribution_patching(model, TOKENS, OTHER, LogitDifference(3), "L0.attn.z")
