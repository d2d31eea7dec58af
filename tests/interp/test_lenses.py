"""Lenses, judged by the model's own prediction, by what a planted circuit knows where, and by plain arithmetic."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from etude.core.errors import UsageError
from etude.interp import lenses
from etude.interp.lenses import Translators, logit_lens
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.models.decoder_model import DecoderModel
from etude.models.planted import planted
from etude.nn.look import look

V, T = 11, 8
VARIANTS: dict[str, dict[str, Any]] = {
    "layer norm": {},
    "post-norm": {"norm_at": "post"},
    "rms, rotary, tied": {"norm": "rms", "positions": "rotary", "tied": True},
    "no norm": {"norm": "none", "biases": False},
    "attention-only": {"feedforward": 0},
    "mup": {"mup_base": 8, "unembed_bias": True},
    "no layers": {"layers": 0},
    "dropout, evaluated": {"dropout": 0.3},
}


def built(**fields: Any) -> DecoderModel:
    """A model whose every weight, norms and biases too, is far from where it would start."""
    spec = Decoder(**{"layers": 3, "width": 16, "heads": 2, "feedforward": 24, "context": T, **fields})
    model = spec.build(V).eval()
    assert isinstance(model, DecoderModel)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.4 * torch.randn(weight.shape, generator=draw))
    return model


TOKENS = torch.randint(V, (2, T), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("fields", VARIANTS.values(), ids=list(VARIANTS))
def test_the_last_row_is_the_models_own_prediction(fields: dict[str, Any]):
    model = built(**fields)
    table = logit_lens(model, TOKENS, top=V)
    own = model(TOKENS).detach().log_softmax(-1)
    assert table.tokens.shape == (model.spec.layers + 1, 2, T, V)
    torch.testing.assert_close(own.exp().gather(-1, table.tokens[-1]), table.probabilities[-1], rtol=1e-4, atol=1e-6)
    assert not table.divergence[-1].any()
    answers = own[:, :-1].gather(-1, TOKENS[:, 1:, None]).squeeze(-1)
    torch.testing.assert_close(table.log_probability[-1, :, :-1], answers, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fields", VARIANTS.values(), ids=list(VARIANTS))
def test_the_lens_is_the_model_that_ends_there(fields: dict[str, Any]):
    """What the model gives where a stream is handed to it as the one behind its last layer."""
    model = built(**fields)
    table = logit_lens(model, TOKENS, top=V)
    for layer in range(model.spec.layers):
        stream = look(model, TOKENS, f"L{layer}.resid.pre")[f"L{layer}.resid.pre"]
        logp = model(TOKENS, stream=stream, layer=model.spec.layers).detach().log_softmax(-1)
        found = torch.empty(2, T, V).scatter_(-1, table.tokens[layer], table.probabilities[layer])
        torch.testing.assert_close(found, logp.exp(), rtol=1e-4, atol=1e-6)


def test_every_column_is_its_definition():
    model = built()
    table = logit_lens(model, TOKENS, top=3)
    final = model(TOKENS).detach().double().softmax(-1)
    for layer, b, t in [(0, 0, 0), (1, 1, 6), (2, 0, 3), (3, 1, 2)]:
        whole = logit_lens(model, TOKENS, top=V)
        p = [0.0] * V
        for token, chance in zip(whole.tokens[layer, b, t], whole.probabilities[layer, b, t], strict=True):
            p[int(token)] = float(chance)
        likeliest = sorted(range(V), key=lambda token: -p[token])
        answer = int(TOKENS[b, t + 1])
        assert table.tokens[layer, b, t].tolist() == likeliest[:3]
        assert table.probabilities[layer, b, t].tolist() == pytest.approx([p[token] for token in likeliest[:3]])
        assert table.rank[layer, b, t] == likeliest.index(answer)
        assert float(table.log_probability[layer, b, t]) == pytest.approx(math.log(p[answer]), abs=1e-5)
        assert float(table.entropy[layer, b, t]) == pytest.approx(-sum(x * math.log(x) for x in p), abs=1e-5)
        kl = sum(float(final[b, t, v]) * math.log(float(final[b, t, v]) / p[v]) for v in range(V))
        assert float(table.divergence[layer, b, t]) == pytest.approx(kl, abs=1e-5)


def test_the_last_position_has_no_answer_unless_one_is_given():
    model = built()
    table = logit_lens(model, TOKENS)
    assert (table.rank[..., -1] == -1).all() and table.log_probability[..., -1].isnan().all()
    assert (table.rank[..., :-1] >= 0).all() and not table.log_probability[..., :-1].isnan().any()
    answers = torch.full_like(TOKENS, -100)
    answers[1, -1] = 4
    given = logit_lens(model, TOKENS, answers=answers)
    assert (given.rank >= 0).sum() == 4 and (given.rank[:, 1, -1] >= 0).all()
    own = float(model(TOKENS).detach()[1, -1].log_softmax(-1)[4])
    assert float(given.log_probability[-1, 1, -1]) == pytest.approx(own, abs=1e-5)


@pytest.mark.parametrize("rows", [1, 3, 16, 100])
def test_how_many_scores_are_held_at_once_does_not_matter(rows: int, monkeypatch: pytest.MonkeyPatch):
    model = built()
    whole = logit_lens(model, TOKENS)
    monkeypatch.setattr(lenses, "SCORES_BYTES", 4 * V * rows)
    parted = logit_lens(model, TOKENS)
    for name, value in vars(whole).items():
        torch.testing.assert_close(getattr(parted, name), value, rtol=1e-4, atol=1e-5, equal_nan=True)


def test_no_more_scores_are_held_than_said(monkeypatch: pytest.MonkeyPatch):
    model, held = built(), []

    def count(x: Tensor) -> Tensor:
        held.append(x.shape[:-1].numel())
        return x

    monkeypatch.setattr(lenses, "SCORES_BYTES", 4 * V * 5)
    with model.tapped({"final_norm.out": count}):
        logit_lens(model, TOKENS)
    assert max(held) == 5 and sum(held) == 4 * TOKENS.numel(), "each position once for each row of the table"


def test_the_planted_prediction_is_known_behind_the_last_layer_and_not_before():
    model = planted(16, 32)
    tokens = torch.tensor([[3, 5, 7, 9, 11, 3, 5, 7, 9, 11, 3]])
    table = logit_lens(model, tokens, answers=torch.tensor([[-1] * 5 + [5, 7, 9, 11, 3, 5]]))
    known = slice(5, None)
    assert table.tokens[2, 0, known, 0].tolist() == [5, 7, 9, 11, 3, 5]
    assert (table.rank[2, 0, known] == 0).all() and (table.log_probability[2, 0, known] > -1e-6).all()
    for layer in (0, 1):
        torch.testing.assert_close(table.entropy[layer], torch.full((1, 11), math.log(16)))
        torch.testing.assert_close(table.log_probability[layer, 0, known], torch.full((6,), -math.log(16)))
        torch.testing.assert_close(table.divergence[layer, 0, known], torch.full((6,), math.log(16)), atol=1e-4, rtol=0)


def test_translators_begin_as_the_logit_lens():
    model = built()
    plain, begun = logit_lens(model, TOKENS), logit_lens(model, TOKENS, translators=Translators(3, 16))
    for name, value in vars(plain).items():
        assert torch.equal(getattr(begun, name).nan_to_num(), value.nan_to_num()), name


def test_a_translator_acts_on_its_own_layer_alone_and_from_the_left_of_its_weight():
    model, translators = built(), Translators(3, 16)
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        translators.A[1] = torch.randn(16, 16, generator=draw)
        translators.b[1] = torch.randn(16, generator=draw)
    plain, tuned = logit_lens(model, TOKENS), logit_lens(model, TOKENS, top=V, translators=translators)
    for layer in (0, 2, 3):
        assert torch.equal(tuned.entropy[layer], plain.entropy[layer])
    x = look(model, TOKENS, "L1.resid.pre")["L1.resid.pre"]
    moved = (x + x @ translators.A[1] + translators.b[1]).detach()
    p = model(TOKENS, stream=moved, layer=3).detach().softmax(-1)
    torch.testing.assert_close(tuned.probabilities[1], p.gather(-1, tuned.tokens[1]), rtol=1e-4, atol=1e-6)


def test_translators_are_saved_and_loaded():
    translators = Translators(3, 16)
    torch.nn.init.normal_(translators.A)
    torch.nn.init.normal_(translators.b)
    again = Translators(3, 16)
    again.load_state_dict(translators.state_dict())
    x = torch.randn(5, 16)
    assert all(torch.equal(again(layer, x), translators(layer, x)) for layer in range(4))
    assert torch.equal(again(3, x), x)
    for layer in (-1, 4):
        with pytest.raises(UsageError, match=f"layer = {layer}: the translators are of layers 0 to 3"):
            again(layer, x)


def test_looking_leaves_the_model_alone():
    model = built()
    before = model(TOKENS)
    logit_lens(model, TOKENS)
    assert torch.equal(model(TOKENS), before)
    assert all(weight.grad is None for weight in model.parameters())


BAD: list[tuple[dict[str, Any], str]] = [
    ({"tokens": torch.zeros(1, T + 1, dtype=torch.long)}, "a text of 9 tokens is longer than the model's context of 8"),
    ({"tokens": torch.full((1, 3), V)}, "token 11 is outside the vocabulary of 11"),
    ({"tokens": torch.tensor([[1, -2]])}, "token -2 is outside the vocabulary"),
    ({"tokens": torch.zeros(1, 0, dtype=torch.long)}, r"the text is empty \(tokens of shape \[1, 0\]\)"),
    ({"top": 0}, "top = 0 of a vocabulary of 11: ask for 1 to 11"),
    ({"top": V + 1}, "top = 12 of a vocabulary of 11"),
    ({"answers": torch.full_like(TOKENS, V)}, "token 11 is outside the vocabulary of 11"),
    ({"answers": TOKENS.T}, r"answers are \[8, 2\] and tokens \[2, 8\]: give one at each position"),
    ({"translators": Translators(2, 16)}, "the translators are of 2 layers of width 16, the model has 3 of 16"),
    ({"translators": Translators(3, 8)}, "the translators are of 3 layers of width 8"),
]


@pytest.mark.parametrize(("given", "message"), BAD, ids=[message[:30] for _, message in BAD])
def test_what_cannot_be_read_is_said_in_one_line(given: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=message) as caught:
        logit_lens(built(), **{"tokens": TOKENS, **given})
    assert "\n" not in str(caught.value)


def test_an_encoder_is_refused():
    model = Encoder(layers=1, width=16, heads=2, feedforward=32, context=12).build(V).eval()
    with pytest.raises(UsageError, match="the model is an encoder: choose a decoder"):
        logit_lens(model, TOKENS)


def test_a_model_that_drops_out_is_refused():
    model = built(dropout=0.3).train()
    with pytest.raises(UsageError, match=r"drops out a share of 0.3: call its eval\(\) first"):
        logit_lens(model, TOKENS)
