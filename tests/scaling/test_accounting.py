"""FLOPs by component sum to the architectures' own count, and each is what PyTorch counts of that part."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from etude.core.errors import UsageError
from etude.core.family import Family
from etude.models.architectures.base import Architecture
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.models.architectures.encoder_decoder import EncoderDecoder
from etude.models.architectures.retro import Retro
from etude.models.shapes import SHAPES, Shape
from etude.nn.attention.banded import Banded
from etude.nn.attention.base import Attention
from etude.nn.attention.sliding import Sliding
from etude.scaling.accounting import (
    COMPONENTS,
    CONVENTIONS,
    compute,
    parameters,
    ratios,
    steps_for,
    tokens_for,
    training_flops,
)

V = 23
SMALL: dict[str, Any] = {"layers": 2, "width": 16, "heads": 4, "feedforward": 24, "context": 8}
BERT: dict[str, Any] = {"norm_at": "post", "segments": 2, "norm_embeddings": True, "head": "bert", "pooling": "first"}

CASES: dict[str, Architecture] = {
    "decoder": Decoder(**SMALL),
    "tied": Decoder(**SMALL, tied=True),
    "grouped queries, gated": Decoder(**SMALL, kv_heads=2, gated=True, positions="rotary", biases=False),
    "attention-only": Decoder(**{**SMALL, "feedforward": 0}),
    "no layers": Decoder(**{**SMALL, "layers": 0}),
    "a bias at the end": Decoder(**SMALL, unembed_bias=True),
    "sliding": Decoder(**SMALL, attention=Sliding(window=3)),
    "banded": Decoder(**SMALL, attention=Banded(window=3)),
    "encoder": Encoder(**SMALL),
    "bert": Encoder(**SMALL, **BERT, tied=True, next_sentence=True),
    "bert, untied": Encoder(**SMALL, **BERT),
    "classifier": Encoder(**SMALL, classes=3),
    "retro, without neighbours": Retro(**SMALL, chunk=4, cross_from=0),
    "encoder-decoder": EncoderDecoder(**SMALL, tied=True, positions="sinusoidal"),
    "encoder-decoder, deep encoder": EncoderDecoder(**SMALL, encoder_layers=3, kv_heads=2),
}

EMBEDDINGS = ("embed.W_pos", "embed.W_seg")
"""Embeddings without a row for each token."""


@pytest.fixture(params=CASES.values(), ids=list(CASES))
def spec(request: pytest.FixtureRequest) -> Architecture:
    return request.param


def test_every_architecture_is_among_the_cases() -> None:
    assert {spec.name for spec in CASES.values()} == set(Family("models/architectures").names())


@pytest.mark.parametrize("context", [1, 5, 8])
def test_components_sum_to_the_architectures_own_count(spec: Architecture, context: int) -> None:
    found = compute(spec, V, context)
    assert found.forward == spec.flops_per_token(V, context)
    assert found.training == found.forward + found.backward == 3 * found.forward
    # the only part of any architecture that is none of the named ones is the map before BERT's unembedding
    map_of_bert = isinstance(spec, Encoder) and spec.head == "bert" and not spec.classes
    assert found.other == (2 * spec.width**2 if map_of_bert else 0)


@pytest.mark.parametrize("member", Family("nn/attention").names())
def test_every_member_of_the_attention_family_is_known_by_its_components(member: str) -> None:
    attention = Family("nn/attention").member(member)()
    assert isinstance(attention, Attention)
    found = compute(replace(CASES["decoder"], attention=attention), V, 8)
    assert found.other == 0 and found.logits > 0


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_components_of_published_shapes_sum_to_their_flops(shape: Shape) -> None:
    found = compute(shape.spec, shape.vocabulary, shape.spec.context)
    assert found.forward == shape.spec.flops_per_token(shape.vocabulary)


def counted_by_pytorch(spec: Architecture, context: int) -> dict[str, int]:
    """Return the FLOPs a token that PyTorch counts: of attention's products of activations, of its maps, of the
    feed-forward networks, of all, and of all forwards and backwards."""
    model, tokens = spec.build(V), torch.zeros(1, context, dtype=torch.long)
    given = {"source": tokens} if isinstance(spec, EncoderDecoder) else {}
    with FlopCounterMode(display=False, depth=9) as counter, sdpa_kernel(SDPBackend.MATH):
        output = model(tokens, **given)
        forward = counter.get_total_flops()
        seen = {"products": 0, "maps": 0, "feedforward": 0, "all": forward}
        for module, operations in counter.get_flop_counts().items():
            for operation, flops in operations.items():
                if module.endswith((".attn", ".cross")):
                    seen["products" if operation is torch.ops.aten.bmm else "maps"] += flops
                elif module.endswith(".mlp"):
                    seen["feedforward"] += flops
        output.sum().backward()
    seen["training"] = counter.get_total_flops()
    assert all(flops % context == 0 for flops in seen.values())
    return {name: flops // context for name, flops in seen.items()}


@pytest.mark.parametrize(
    "name", ["decoder", "grouped queries, gated", "attention-only", "encoder", "encoder-decoder, deep encoder"]
)
def test_each_component_is_what_pytorch_does_forwards_and_backwards(name: str) -> None:
    spec = CASES[name]
    seen, found = counted_by_pytorch(spec, 7), compute(spec, V, 7)
    assert found.maps == seen["maps"] and found.feedforward == seen["feedforward"]
    assert found.logits == found.values and found.logits + found.values == seen["products"]
    assert found.unembedding == seen["all"] - seen["maps"] - seen["feedforward"] - seen["products"]
    assert found.forward == seen["all"] and found.training == seen["training"]


def test_gpt2_by_hand() -> None:
    spec = Decoder(layers=12, width=768, heads=12, feedforward=3072, context=1024, tied=True)
    assert asdict(compute(spec, 50_257, 1024)) == {
        "embedding": 0,
        "maps": 12 * 2 * 4 * 768 * 768,
        "logits": 12 * 2 * 1024 * 768,
        "softmax": 0,
        "values": 12 * 2 * 1024 * 768,
        "feedforward": 12 * 2 * 2 * 768 * 3072,
        "unembedding": 2 * 768 * 50_257,
        "other": 0,
    }
    held = parameters(spec, 50_257)
    assert held.all == 124_439_808
    assert held.embeddings == 768 * (50_257 + 1024) and held.without_embeddings == 85_056_000


def printed(L: int, s: int, d: int, V: int, K: int, H: int, F: int) -> int:
    """Return the FLOPs of a text's forward pass as Hoffmann et al. 2022, appendix F, print them, line by line."""
    embeddings = 2 * s * V * d
    qkv = 2 * 3 * s * d * (K * H)
    logits = 2 * s * s * (K * H)
    softmax = 3 * H * s * s
    reduction = 2 * s * s * (K * H)
    projection = 2 * s * (K * H) * d
    dense = 2 * s * (d * F + d * F)
    final = 2 * s * d * V
    return embeddings + L * (qkv + logits + softmax + reduction + projection + dense) + final


@given(
    layers=st.integers(1, 9),
    heads=st.integers(1, 6),
    head_width=st.integers(1, 12),
    feedforward=st.integers(1, 90),
    vocabulary=st.integers(1, 99),
    context=st.integers(1, 33),
)
def test_appendix_f_is_the_printed_formula(
    layers: int, heads: int, head_width: int, feedforward: int, vocabulary: int, context: int
) -> None:
    width = heads * head_width
    spec = Decoder(layers=layers, width=width, heads=heads, feedforward=feedforward, context=33)
    a_text = context * compute(spec, vocabulary, context, "appendix-f").forward
    assert a_text == printed(layers, context, width, vocabulary, head_width, heads, feedforward)
    without = a_text - 2 * (2 * context * vocabulary * width)
    assert context * compute(spec, vocabulary, context, "table-a4").forward == without


def test_an_encoder_decoder_embeds_two_texts_and_attends_three_times() -> None:
    spec = EncoderDecoder(**{**SMALL, "layers": 1})
    found = compute(spec, V, 8, "appendix-f")
    assert found.embedding == 2 * (2 * V * 16)
    assert found.softmax == 3 * (3 * 4 * 8) and found.logits == 3 * (2 * 8 * 16)
    assert found.feedforward == 2 * (2 * 2 * 16 * 24) and found.unembedding == 2 * V * 16


def test_conventions_count_known_components_or_estimate() -> None:
    for each in CONVENTIONS.values():
        assert set(each.counted) <= set(COMPONENTS) and bool(each.counted) != bool(each.per_parameter) and each.words


def test_parameters_are_split_as_the_model_holds_them(spec: Architecture) -> None:
    model = spec.build(V)
    held = parameters(spec, V)
    weights = dict(model.named_parameters())
    embeddings = [weight for name, weight in weights.items() if name in EMBEDDINGS or V in weight.shape]
    assert held.all == sum(weight.numel() for weight in weights.values())
    assert held.embeddings == sum(weight.numel() for weight in embeddings)
    assert held.without_embeddings == held.all - held.embeddings >= 0


def test_tied_embeddings_count_once_and_change_no_flops() -> None:
    tied, untied = CASES["tied"], CASES["decoder"]
    assert parameters(untied, V).embeddings - parameters(tied, V).embeddings == V * 16
    assert parameters(untied, V).without_embeddings == parameters(tied, V).without_embeddings
    assert compute(tied, V, 8) == compute(untied, V, 8)


def test_estimates_are_six_for_each_parameter_and_token(spec: Architecture) -> None:
    held = parameters(spec, V)
    assert training_flops(spec, V, 8, "6nd") == 6 * held.all
    assert training_flops(spec, V, 8, "6nd-without-embeddings") == 6 * held.without_embeddings
    assert training_flops(spec, V, 8) == 3 * spec.flops_per_token(V, 8)


def test_the_ratio_to_6nd_goes_to_one_as_models_grow_wide_and_short_texts_make_attention_cheap() -> None:
    bare: dict[str, Any] = {"norm": "none", "biases": False, "positions": "none", "tied": True, "context": 2048}
    small, large = (Decoder(layers=8, width=w, heads=8, feedforward=4 * w, **bare) for w in (64, 65_536))
    of_small, of_large = ratios(small, 512, 2048), ratios(large, 512, 2048)
    assert of_small["exact"] > 3 and of_large["exact"] == pytest.approx(1, abs=0.01)
    assert of_small["6nd"] == of_large["6nd"] == 1
    # each weight of a tied model without biases and norms is in one product a token, but for the logits and values
    assert training_flops(small, 512, 1) - 3 * 8 * 4 * 64 == training_flops(small, 512, 1, "6nd")


def test_ratios_take_another_count_of_parameters() -> None:
    spec = CASES["decoder"]
    N = spec.parameters(V)
    assert ratios(spec, V, 8, 2 * N) == {name: ratio / 2 for name, ratio in ratios(spec, V, 8).items()}


@given(st.floats(1e9, 1e15), st.integers(1, 64), st.sampled_from(sorted(CONVENTIONS)))
def test_a_budget_is_spent(flops: float, batch: int, convention: str) -> None:
    spec = CASES["decoder"]
    tokens = tokens_for(flops, spec, V, 8, convention)
    assert tokens * training_flops(spec, V, 8, convention) == pytest.approx(flops)
    steps = steps_for(flops, spec, V, 8, batch, convention)
    assert steps >= 1 and abs(steps * batch * 8 - tokens) <= batch * 8 / 2 * (1 + 1e-9)


def test_what_cannot_be_counted_is_one_line() -> None:
    spec = CASES["decoder"]
    with pytest.raises(UsageError, match=r"unknown convention of FLOPs 'appendix': did you mean 'appendix-f'\?"):
        training_flops(spec, V, 8, "appendix")
    with pytest.raises(UsageError, match="6nd estimates by parameters and knows no components: choose exact, "):
        compute(spec, V, 8, "6nd")
    with pytest.raises(UsageError, match="a text of 9 tokens is longer than the model's context of 8"):
        compute(spec, V, 9)
    with pytest.raises(UsageError, match="a text of 0 tokens of a vocabulary of 23: give at least 1 of each"):
        compute(spec, V, 0)
    for flops in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="FLOPs: give a finite number above 0"):
            tokens_for(flops, spec, V, 8)
    with pytest.raises(UsageError, match="a token costs nothing by table-a4 in a model without blocks"):
        tokens_for(1e9, CASES["no layers"], V, 8, "table-a4")
    with pytest.raises(UsageError, match=r"buys 5 tokens of this model and one step takes 256 \(a batch of 32 texts"):
        steps_for(5.2 * training_flops(spec, V, 8), spec, V, 8, 32)
    with pytest.raises(UsageError, match="a batch of 0 texts"):
        steps_for(1e9, spec, V, 8, 0)


class Sparse(Attention):
    """Half of the products."""

    def build(self, shape: Any) -> nn.Module:
        raise NotImplementedError

    def flops(self, shape: Any, context: int, source: int = 0) -> int:
        return super().flops(shape, context, source) // 2


def test_attention_of_fewer_products_is_refused_and_not_miscounted() -> None:
    with pytest.raises(UsageError, match="FLOPs less than multi-head attention: its components are not known"):
        compute(replace(CASES["decoder"], attention=Sparse()), V, 8)
