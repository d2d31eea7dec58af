"""Direct logit attribution: the sum is the logit, and each term is what is missing when its part is taken out of the
stream, with the scale of the final norm held."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from etude.core.errors import UsageError
from etude.interp.attribution import Attribution, attribute
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.models.decoder_model import DecoderModel
from etude.models.planted import CERTAIN, planted
from etude.nn.attention.sliding import Sliding
from etude.nn.look import look

V, T = 11, 8
VARIANTS: dict[str, dict[str, Any]] = {
    "gpt2": {"tied": True},
    "rms": {"norm": "rms", "biases": False},
    "layer norm, no biases": {"biases": False},
    "no norm": {"norm": "none"},
    "rotary": {"positions": "rotary"},
    "2017's embeddings": {"positions": "sinusoidal", "scaled_embeddings": True},
    "no positions": {"positions": "none"},
    "grouped queries": {"kv_heads": 2},
    "one group, rotary": {"kv_heads": 1, "positions": "rotary"},
    "gated": {"gated": True, "activation": "silu"},
    "parallel": {"parallel": True, "positions": "rotary", "rotary_fraction": 0.5},
    "attention-only": {"feedforward": 0},
    "bare": {"feedforward": 0, "norm": "none", "biases": False},
    "sliding": {"attention": Sliding(window=3)},
    "mup": {"mup_base": 8, "unembed_bias": True},
    "no layers": {"layers": 0},
}
TOKENS = torch.randint(V, (T,), generator=torch.Generator().manual_seed(0))


def built(**fields: Any) -> DecoderModel:
    """A model whose every weight, norms and biases too, is far from where it would start."""
    spec = Decoder(**{"layers": 2, "width": 16, "heads": 4, "feedforward": 24, "context": T, **fields})
    model = spec.build(V).eval()
    assert isinstance(model, DecoderModel)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn(weight.shape, generator=draw))
    return model


@pytest.fixture(params=VARIANTS.values(), ids=list(VARIANTS))
def model(request: pytest.FixtureRequest) -> DecoderModel:
    return built(**request.param)


def asked(logits: Tensor, token: int, versus: int | str | None) -> Tensor:
    if versus is None:
        return logits[token]
    return logits[token] - (logits.mean() if versus == "mean" else logits[int(versus)])


@pytest.mark.parametrize(("position", "versus"), [(-1, None), (0, 7), (4, "mean")])
def test_the_sum_is_the_logit(model: DecoderModel, position: int, versus: int | str | None):
    for precise, tolerance in ((model, 1e-4), (model.double(), 1e-10)):
        logit = asked(precise(TOKENS[None])[0, position].detach(), 3, versus)
        found = attribute(precise, TOKENS, token=3, position=position, versus=versus)
        torch.testing.assert_close(found.total(), logit, atol=tolerance, rtol=0)
        torch.testing.assert_close(found.logit, logit, atol=tolerance, rtol=0)
        assert found.position == position % T


def test_every_grouping_has_the_same_sum(model: DecoderModel):
    found = attribute(model.double(), TOKENS, token=3, position=5, versus=1)
    outside = found.embedding + found.position_vector + found.norm_bias + found.unembedding_bias
    torch.testing.assert_close(outside + found.by_layer().sum(), found.total())
    torch.testing.assert_close(found.positions().sum(), found.total())
    inside = found.heads.sum() + found.neurons.sum() + found.attention_bias.sum() + found.feed_forward_bias.sum()
    torch.testing.assert_close(outside + inside, found.total())


def test_the_shapes(model: DecoderModel):
    found, spec = attribute(model, TOKENS[None], token=0, position=5), model.spec
    assert found.by_source.shape == (spec.layers, 4, 6) and found.heads.shape == (spec.layers, 4)
    assert found.neurons.shape == (spec.layers, spec.feedforward)
    assert found.by_layer().shape == (spec.layers,) and found.positions().shape == (6,)


def held(model: DecoderModel) -> AbstractContextManager[None]:
    """Let the final norm divide by what it divides by in the text, whatever stream it is given."""
    if model.spec.norm == "none":
        return nullcontext()
    scale = look(model, TOKENS[None], "final_norm.scale")["final_norm.scale"]
    return model.tapped({"final_norm.scale": lambda _: scale})


def test_of_an_empty_stream_the_last_biases_are_left(model: DecoderModel):
    found = attribute(model, TOKENS, token=2, position=5, versus=9)
    nothing = torch.zeros(1, T, 16)
    with held(model), torch.no_grad():
        logits = model(TOKENS[None], stream=nothing, layer=model.spec.layers)[0, 5]
    torch.testing.assert_close(found.norm_bias + found.unembedding_bias, logits[2] - logits[9], atol=1e-5, rtol=1e-4)
    has_bias = model.spec.norm == "layer" and model.spec.biases
    assert (found.norm_bias != 0) == has_bias and (found.unembedding_bias != 0) == model.spec.unembed_bias


def without(model: DecoderModel, part: Callable[[], Tensor], position: int, token: int, versus: int | None) -> float:
    """Return by how much a logit falls where a vector [D] is taken out of the last stream and the final norm divides
    by what it divided by before."""
    length, layers = T, model.spec.layers
    last = f"L{layers - 1}.resid.post"
    stream = look(model, TOKENS[None], last)[last]
    fewer = stream.clone()
    fewer[0, position] -= part()
    text = torch.zeros(1, length, dtype=torch.long)
    with held(model), torch.no_grad():
        before, after = (
            asked(model(text, stream=x, layer=layers)[0, position], token, versus) for x in (stream, fewer)
        )
    return float(before - after)


ORACLE = [name for name in VARIANTS if name != "no layers"]


@pytest.mark.parametrize("name", ORACLE)
def test_each_term_is_what_is_missing_without_its_part(name: str):
    model, t = built(**VARIANTS[name]).double(), 5
    found = attribute(model, TOKENS, token=2, position=t, versus=9)

    def lost(part: Callable[[], Tensor]) -> float:
        return without(model, part, t, 2, 9)

    def seen(site: str) -> Tensor:
        return look(model, TOKENS[None], site)[site]

    assert float(found.embedding) == pytest.approx(lost(lambda: seen("embed.tokens")[0, t]), abs=1e-9)
    if model.embed.added != "none":
        assert float(found.position_vector) == pytest.approx(lost(lambda: seen("embed.positions")[t]), abs=1e-9)
    for layer in range(2):
        heads = seen(f"L{layer}.attn.head_out")[0, t]
        for head in range(4):
            expected = lost(lambda head=head, heads=heads: heads[head])
            assert float(found.heads[layer, head]) == pytest.approx(expected, abs=1e-9)
        wrote = seen(f"L{layer}.resid.post")[0, t] - seen(f"L{layer}.resid.pre")[0, t]
        assert float(found.by_layer()[layer]) == pytest.approx(lost(lambda wrote=wrote: wrote), abs=1e-9)
        bias = seen(f"L{layer}.attn.out")[0, t] - heads.sum(0)
        assert float(found.attention_bias[layer]) == pytest.approx(lost(lambda bias=bias: bias), abs=1e-9)
        if model.spec.feedforward:
            check_neurons(model, found, layer, t, lost)


def check_neurons(
    model: DecoderModel, found: Attribution, layer: int, t: int, lost: Callable[[Callable[[], Tensor]], float]
) -> None:
    """Each neuron is set to 0 where it fires; with all of them at 0 the bias alone is left."""
    out, post = f"L{layer}.mlp.out", f"L{layer}.mlp.post"
    whole = look(model, TOKENS[None], out)[out][0, t]
    for neuron in (0, 13, 23):
        silent = torch.ones(24, dtype=torch.float64)
        silent[neuron] = 0
        with model.tapped({post: lambda x, silent=silent: x * silent}):
            rest = look(model, TOKENS[None], out)[out][0, t]
        expected = lost(lambda rest=rest: whole - rest)
        assert float(found.neurons[layer, neuron]) == pytest.approx(expected, abs=1e-9)
    with model.tapped({post: torch.zeros_like}):
        bias = look(model, TOKENS[None], out)[out][0, t]
    assert float(found.feed_forward_bias[layer]) == pytest.approx(lost(lambda: bias), abs=1e-9)


@pytest.mark.parametrize("name", ["gpt2", "grouped queries", "sliding", "one group, rotary"])
def test_a_head_by_source_is_what_is_missing_where_it_does_not_look_there(name: str):
    model, t = built(**VARIANTS[name]).double(), 5
    found = attribute(model, TOKENS, token=2, position=t, versus=9)
    for layer, head, s in [(0, 1, 0), (0, 3, 5), (1, 0, 4), (1, 2, 2)]:
        out = f"L{layer}.attn.head_out"

        def blind(pattern: Tensor, head: int = head, s: int = s) -> Tensor:
            edited = pattern.clone()
            edited[0, head, t, s] = 0
            return edited

        whole = look(model, TOKENS[None], out)[out][0, t, head]
        with model.tapped({f"L{layer}.attn.pattern": blind}):
            rest = look(model, TOKENS[None], out)[out][0, t, head]
        expected = without(model, lambda whole=whole, rest=rest: whole - rest, t, 2, 9)
        assert float(found.by_source[layer, head, s]) == pytest.approx(expected, abs=1e-9)


def test_a_bias_of_the_values_is_divided_as_the_attention_is():
    """Values that are their bias alone: a head then brings from each position a share of one vector."""
    model = built()
    with torch.no_grad():
        for layer in range(2):
            model.get_parameter(f"layers.{layer}.attn.W_V").zero_()
    found = attribute(model.double(), TOKENS, token=2)
    pattern = look(model, TOKENS[None], "L1.attn.pattern")["L1.attn.pattern"][0, :, -1]
    torch.testing.assert_close(found.by_source[1], pattern * found.heads[1, :, None])
    assert found.heads[1].abs().min() > 1e-6


REPEATED = torch.tensor([3, 5, 7, 9, 11, 3, 5, 7, 9, 11, 3])


@pytest.mark.parametrize("t", range(5, 10))
def test_the_planted_prediction_is_the_induction_heads_alone_from_behind_the_last_occurrence(t: int):
    right = int(REPEATED[t - 4])
    found = attribute(planted(16, 32), REPEATED, token=right, position=t)
    assert float(found.total()) == pytest.approx(CERTAIN, abs=1e-3)
    assert float(found.by_source[1, 0, t - 4]) == pytest.approx(CERTAIN, abs=1e-3)
    rest = found.by_source.clone()
    rest[1, 0, t - 4] = 0
    assert rest.abs().max() < 1e-3
    assert float(found.embedding) == float(found.position_vector) == 0
    assert found.positions().argmax() == t - 4


def test_a_token_that_came_twice_is_continued_from_both_places():
    found = attribute(planted(16, 32), REPEATED, token=5, position=10)
    assert found.by_source[1, 0, [1, 6]].tolist() == pytest.approx([CERTAIN / 2] * 2, abs=1e-3)
    assert float(found.total()) == pytest.approx(CERTAIN, abs=1e-3)


def test_the_planted_head_speaks_for_no_other_token():
    found = attribute(planted(16, 32), REPEATED, token=1, versus=5)
    assert float(found.heads[1, 0]) == pytest.approx(-CERTAIN, abs=1e-3)
    mean = attribute(planted(16, 32), REPEATED, token=5, versus="mean")
    assert float(mean.heads[1, 0]) == pytest.approx(CERTAIN * 15 / 16, abs=1e-3)


@settings(deadline=None, max_examples=8)
@given(position=st.integers(-T, T - 1), token=st.integers(0, V - 1), versus=st.integers(0, V - 1))
def test_a_difference_turns_round_with_its_tokens(position: int, token: int, versus: int):
    model = _MODEL
    one = attribute(model, TOKENS, token=token, position=position, versus=versus)
    other = attribute(model, TOKENS, token=versus, position=position, versus=token)
    torch.testing.assert_close(one.by_source, -other.by_source, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(one.neurons, -other.neurons, atol=1e-5, rtol=1e-4)


_MODEL = built()


def test_what_comes_later_does_not_matter():
    model, other = built(), TOKENS.clone()
    other[6:] = (other[6:] + 1) % V
    one, changed = (attribute(model, text, token=4, position=5) for text in (TOKENS, other))
    assert all(torch.equal(value, vars(changed)[name]) for name, value in vars(one).items() if name != "position")


def test_the_logits_over_the_vocabulary_less_their_mean_sum_to_nothing():
    model = built().double()
    heads = torch.stack([attribute(model, TOKENS, token=v, versus="mean").heads for v in range(V)])
    torch.testing.assert_close(heads.sum(0), torch.zeros(2, 4, dtype=torch.float64))
    assert heads.abs().max() > 0.01


BAD: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"norm_at": "post"}, {}, "the model is post-norm: its stream is normed after every addition, so it is no sum"),
    ({}, {"tokens": torch.zeros(2, 4, dtype=torch.long)}, r"tokens of shape \[2, 4\]: one text is attributed"),
    ({}, {"tokens": torch.zeros(T + 1, dtype=torch.long)}, "a text of 9 tokens is longer than the model's context"),
    ({}, {"tokens": torch.tensor([1, V])}, "token 11 is outside the vocabulary of 11"),
    ({}, {"tokens": torch.tensor([1, V]), "position": 0}, "token 11 is outside the vocabulary of 11"),
    ({}, {"tokens": torch.zeros(0, dtype=torch.long)}, "the text is empty"),
    ({}, {"position": T}, r"position 8 is outside a text of 8 tokens \(0 to 7\)"),
    ({}, {"position": -T - 1}, "position -9 is outside a text of 8 tokens"),
    ({}, {"token": V}, r"token 11 is outside the vocabulary of 11 \(0 to 10\)"),
    ({}, {"token": -1}, "token -1 is outside the vocabulary"),
    ({}, {"versus": V}, "token 11 is outside the vocabulary"),
    ({}, {"versus": "median"}, "versus = 'median': give a token's number, 'mean', or None"),
]


@pytest.mark.parametrize(("fields", "given", "message"), BAD, ids=[message[:30] for _, _, message in BAD])
def test_what_cannot_be_attributed_is_said_in_one_line(fields: dict[str, Any], given: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=message) as caught:
        attribute(built(**fields), **{"tokens": TOKENS, "token": 1, **given})
    assert "\n" not in str(caught.value)


def test_an_encoder_is_refused():
    model = Encoder(layers=1, width=16, heads=2, feedforward=32, context=12).build(V).eval()
    with pytest.raises(UsageError, match="the model is an encoder: choose a decoder"):
        attribute(model, TOKENS, token=1)


def test_a_model_that_is_being_changed_is_refused():
    model = built()
    with pytest.raises(UsageError, match="functions are put"), model.tapped({"L0.mlp.out": torch.zeros_like}):
        attribute(model, TOKENS, token=1)
