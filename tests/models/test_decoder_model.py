"""What holds for every decoder, whatever its options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from etude.core.errors import UsageError
from etude.core.site import Site
from etude.models.architectures.decoder import Decoder
from etude.models.transformer import Transformer
from etude.nn import multi_head
from etude.nn.attention.banded import Banded
from etude.nn.attention.base import Attention
from etude.nn.attention.full import Full
from etude.nn.attention.sliding import Sliding
from etude.nn.look import look

V, B = 13, 3


def specs() -> st.SearchStrategy[Decoder]:
    """Draw decoders of any options and small sizes."""
    return st.builds(
        lambda heads, half, norm, post, parallel, one_group, **fields: Decoder(
            width=2 * heads * half,
            heads=heads,
            kv_heads=1 if one_group else 0,
            norm=norm,
            norm_at="post" if post and norm != "none" else "pre",
            parallel=parallel and not (post and norm != "none"),
            **fields,
        ),
        heads=st.integers(1, 3),
        half=st.integers(2, 4),
        norm=st.sampled_from(["layer", "rms", "none"]),
        post=st.booleans(),
        layers=st.integers(0, 3),
        feedforward=st.sampled_from([0, 1, 12]),
        context=st.integers(2, 9),
        positions=st.sampled_from(["learned", "sinusoidal", "rotary", "none"]),
        rotary_fraction=st.sampled_from([0.5, 1.0]),
        attention=st.sampled_from([Full(), Sliding(window=2), Banded(window=2)]),
        activation=st.sampled_from(["relu", "gelu", "gelu-tanh", "silu"]),
        gated=st.booleans(),
        parallel=st.booleans(),
        one_group=st.booleans(),
        biases=st.booleans(),
        tied=st.booleans(),
        scaled_embeddings=st.booleans(),
        dropout=st.sampled_from([0.0, 0.1]),
    )


def lively(spec: Decoder, seed: int = 0) -> Transformer:
    """Build a model whose weights are large enough that every part matters."""
    model = spec.build(V, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    return model


def tokens_for(spec: Decoder) -> Tensor:
    return torch.randint(V, (B, spec.context), generator=torch.Generator().manual_seed(1))


@settings(max_examples=25, deadline=None)
@given(spec=specs(), data=st.data())
def test_no_future_token_changes_a_past_logit(spec: Decoder, data: st.DataObject) -> None:
    model, tokens = lively(spec).eval(), tokens_for(spec)
    cut = data.draw(st.integers(1, spec.context - 1))
    changed = tokens.clone()
    changed[:, cut:] = (tokens[:, cut:] + data.draw(st.integers(1, V - 1))) % V
    for read in (model, lambda t: look(model, t, ["logits", "*"])[Site("logits")]):  # fused, and every path explicit
        before, after = read(tokens), read(changed)
        torch.testing.assert_close(before[:, :cut], after[:, :cut], rtol=0, atol=1e-6)
        assert not torch.equal(before[:, cut:], after[:, cut:])


@settings(max_examples=25, deadline=None)
@given(spec=specs())
def test_sizes_and_shapes_are_known_before_anything_runs(spec: Decoder) -> None:
    model, tokens = spec.build(V), tokens_for(spec)
    assert sum(weight.numel() for weight in model.parameters()) == spec.parameters(V)
    text = {"B": B, "T": spec.context, "S": spec.context}
    known = {
        site: tuple(text[a.name] if a.size is None else a.size for a in shape) for site, shape in model.sites().items()
    }
    assert known == {site: tuple(value.shape) for site, value in look(model, tokens, "*").items()}


def test_every_parameter_receives_a_gradient(spec: Decoder) -> None:
    model, tokens = lively(spec), tokens_for(spec)
    F.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None and weight.grad.isfinite().all(), name
        # A softmax does not see what is added to all scores of a row: without rotation the key's bias is such.
        if not name.endswith("b_K") or spec.positions == "rotary":
            assert weight.grad.any(), name


def test_reading_everything_changes_nothing(spec: Decoder) -> None:
    model, tokens = lively(spec).eval(), tokens_for(spec)
    plain = model(tokens)
    torch.testing.assert_close(look(model, tokens, "*")[Site("logits")], plain, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.double()(tokens), look(model, tokens, "*")[Site("logits")], rtol=0, atol=1e-12)


def test_the_stream_is_the_sum_of_what_is_written() -> None:
    spec = Decoder(layers=2, width=16, heads=2, feedforward=24, context=8)
    seen = look(lively(spec).eval(), tokens_for(spec), "*")
    written = [seen[Site(f"L{n}.{part}.out")] for n in range(2) for part in ("attn", "mlp")]
    torch.testing.assert_close(seen[Site("embed.out")] + sum(written), seen[Site("L1.resid.post")])
    torch.testing.assert_close(seen[Site("L0.resid.post")], seen[Site("L1.resid.pre")])
    heads = seen[Site("L1.attn.head_out")].sum(2) + seen[Site("L1.attn.b_O")]
    torch.testing.assert_close(heads, seen[Site("L1.attn.out")])


def test_attention_only_has_no_trace_of_a_feed_forward() -> None:
    model = Decoder(feedforward=0).build(V)
    names = [*model.sites(), *model.state_dict()]
    assert not [name for name in names if "mlp" in name or "mid" in name or "W_in" in name]
    with pytest.raises(UsageError, match=r"unknown site 'L0\.mlp\.out'"):
        model.sites("L0.mlp.out")


def test_two_reads_of_a_tied_weight_are_both_tapped() -> None:
    model = lively(Decoder(width=16, heads=2, tied=True, norm="none", positions="none", layers=0))
    tokens = tokens_for(model.spec)
    with model.tapped({"embed.W_E": lambda W: 2 * W}):
        tapped = model(tokens)
    torch.testing.assert_close(tapped, 4 * model(tokens))


WRONG: list[tuple[Callable[[], Tensor], str]] = [
    (lambda: torch.zeros(1, 9, dtype=torch.long), "a text of 9 tokens is longer than the model's context of 8"),
    (lambda: torch.tensor([[1, V]]), f"token {V} is outside the vocabulary of {V}"),
]


@pytest.mark.parametrize(("tokens", "message"), WRONG, ids=["too long", "unknown token"])
def test_what_cannot_be_read_is_refused(tokens: Callable[[], Tensor], message: str) -> None:
    model = Decoder(context=8).build(V)
    for read in (model, lambda t: look(model, t, "logits")):
        with pytest.raises(UsageError, match=message):
            read(tokens())
    assert model.watchers == 0


@pytest.mark.parametrize(
    "tokens",
    [torch.zeros(4, dtype=torch.long), torch.zeros(1, 4), torch.ones(1, 4, dtype=torch.bool)],
    ids=["one axis", "floats", "truths"],
)
def test_tokens_of_another_form_are_refused(tokens: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as outside the tests
    with pytest.raises(UsageError, match=r"tokens are whole numbers of shape \[B, T\], not (int64|float32|bool) of"):
        Decoder().build(V)(tokens)


def test_a_model_needs_a_vocabulary() -> None:
    with pytest.raises(UsageError, match="vocabulary = 0 is too small"):
        Decoder().build(0)


RECOMPUTED = Decoder(layers=3, width=16, heads=2, feedforward=24, context=8, dropout=0.1)


def gradients(model: Transformer, tokens: Tensor) -> dict[str, Tensor]:
    torch.manual_seed(5)
    model.zero_grad()
    F.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def test_recomputing_gives_the_same_gradients_for_a_second_forward_pass() -> None:
    model, tokens = lively(RECOMPUTED), tokens_for(RECOMPUTED)
    kept = gradients(model, tokens)
    calls: list[int] = []
    layers: Any = model.layers
    layers[1].register_forward_pre_hook(lambda *_: calls.append(1))
    model.recompute = True
    again = gradients(model, tokens)
    assert len(calls) == 2
    assert all(torch.equal(again[name], kept[name]) for name in kept)


def test_under_recomputation_each_site_is_seen_once_and_the_gradient_is_of_what_was_seen() -> None:
    model, tokens = lively(RECOMPUTED).eval(), tokens_for(RECOMPUTED)
    calls: list[int] = []

    def halve(value: Tensor) -> Tensor:
        calls.append(1)
        return value / 2

    def tapped_gradients() -> dict[str, Tensor]:
        model.zero_grad()
        with model.tapped({"L1.mlp.post": halve, "L2.attn.W_V": halve}):
            loss = F.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())
        loss.backward()  # after the taps have gone: a recomputation would not see them
        return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}

    expected = tapped_gradients()
    model.recompute = True
    calls.clear()
    found = tapped_gradients()
    assert len(calls) == 2
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("attention", [Full(), Sliding(window=2)], ids=["full", "sliding"])
def test_documents_kept_apart_are_read_as_if_alone(positions: str, attention: Attention) -> None:
    spec = Decoder(width=16, heads=2, context=8, positions=positions, attention=attention)  # type: ignore[arg-type]
    model, tokens = lively(spec).eval(), tokens_for(spec)
    documents = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2]).expand(B, 8)
    places = torch.tensor([0, 1, 2, 0, 1, 2, 3, 0]).expand(B, 8)
    whole = model(tokens, documents=documents, positions=places)
    for a, b in ((0, 3), (3, 7), (7, 8)):
        torch.testing.assert_close(whole[:, a:b], model(tokens[:, a:b]), rtol=1e-4, atol=1e-5)
    going_on = model(tokens, documents=documents)
    same = torch.allclose(going_on, whole, rtol=1e-4, atol=1e-5)
    assert same == (positions == "rotary"), "rotary positions see distances alone"


def test_keeping_documents_apart_costs_nothing_where_it_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    masks: list[Tensor | None] = []
    fused = multi_head.fused_attention

    def spy(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *rest: object) -> Tensor:
        masks.append(mask)
        return fused(q, k, v, mask, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(multi_head, "fused_attention", spy)
    model = Decoder(width=16, heads=2, context=8).build(V)
    tokens = tokens_for(model.spec)
    model(tokens)
    assert masks == [None, None], "the kernel's own causal path, without a mask"
    model(tokens, documents=torch.zeros_like(tokens))
    assert [mask.shape for mask in masks[2:] if mask is not None] == [(B, 1, 8, 8)] * 2
