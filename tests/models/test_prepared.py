"""A model made ready to write: the same scores, its taps in place, and the weights it has now."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from etude.core.errors import UsageError
from etude.models import prepared as module
from etude.models.architectures.base import Architecture
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder_decoder import EncoderDecoder
from etude.models.cache import Cache
from etude.models.prepared import prepared
from etude.models.transformer import Transformer
from etude.nn.precision import autocast

V = 13
SHAPE: dict[str, Any] = {"layers": 2, "width": 16, "heads": 4, "feedforward": 24, "context": 8}
SPECS: list[Architecture] = [
    Decoder(**SHAPE, tied=True),
    Decoder(**SHAPE, kv_heads=2, gated=True, biases=False, positions="rotary", norm="rms"),
    Decoder(**SHAPE, parallel=True),
    EncoderDecoder(**SHAPE, tied=True, norm_at="post"),
]
every_spec = pytest.mark.parametrize("spec", SPECS, ids=["tied", "llama", "parallel", "encoder-decoder"])
pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


@pytest.fixture(autouse=True)
def _however_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGE", 1)


def lively(spec: Architecture) -> Transformer:
    model, generator = spec.build(V).eval(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    return model


def given(model: Transformer) -> dict[str, Tensor]:
    return {"source": torch.randint(V, (3, 5))} if isinstance(model.spec, EncoderDecoder) else {}


@every_spec
@torch.no_grad()
def test_scores_are_the_models(spec: Architecture) -> None:
    model, tokens = lively(spec), torch.randint(V, (3, 8))
    more, twin = given(model), prepared(model, rows=2)
    assert twin is not model
    torch.testing.assert_close(twin(tokens, **more), model(tokens, **more), rtol=1e-5, atol=1e-5)
    one = {name: value[:1] for name, value in more.items()}
    past, other = Cache(8), Cache(8)
    for at in range(3):
        now = tokens[:1, at : at + 1]
        torch.testing.assert_close(twin(now, past=past, **one), model(now, past=other, **one), rtol=1e-5, atol=1e-5)


@every_spec
@torch.no_grad()
def test_bf16_is_what_autocast_is(spec: Architecture) -> None:
    model, tokens = lively(spec), torch.randint(V, (3, 8))
    more = given(model)
    exact, found = model(tokens, **more), prepared(model, "bf16")(tokens, **more)
    with autocast(torch.device("cpu"), "bf16"):
        cast = model(tokens, **more)
    away = (cast - exact).abs().mean()
    assert 0 < (found - exact).abs().mean() < 2 * away


@every_spec
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@torch.no_grad()
def test_taps_are_shared(spec: Architecture, precision: str) -> None:
    model, tokens = lively(spec), torch.randint(V, (3, 8))
    more, twin = given(model), prepared(model, precision, rows=2)
    untapped = twin(tokens, **more)
    for site in ("L1.attn.head_out", "L0.mlp.out", "L1.attn.pattern", "logits"):
        with model.tapped({site: torch.zeros_like}):
            found = twin(tokens, **more)
            assert (found - model(tokens, **more)).abs().max() < (1e-5 if precision == "fp32" else 0.5)
        assert not torch.equal(found, untapped)


@torch.no_grad()
def test_a_function_at_a_weight_is_asked_of_the_model_itself() -> None:
    model = lively(SPECS[0])
    with model.tapped({"L0.attn.W_V": torch.zeros_like}):
        assert prepared(model, rows=16) is model
        found = prepared(model, "bf16")(torch.zeros(1, 2, dtype=torch.long))
        assert (found.float() - model(torch.zeros(1, 2, dtype=torch.long))).abs().max() < 0.3


@every_spec
@torch.no_grad()
def test_one_row_packs_nothing(spec: Architecture) -> None:
    """Alone, queries, keys and values come of one product, and every weight stays where it is."""
    model, tokens = lively(spec), torch.randint(V, (1, 8))
    more = {name: value[:1] for name, value in given(model).items()}
    twin = prepared(model, rows=1)
    assert isinstance(twin, Transformer) and list(map(id, twin.parameters())) == list(map(id, model.parameters()))
    torch.testing.assert_close(twin(tokens, **more), model(tokens, **more), rtol=1e-5, atol=1e-5)


def test_a_twin_drops_nothing() -> None:
    model = Decoder(layers=1, width=16, heads=2, context=8, dropout=0.5).build(V)
    twin, tokens = prepared(model.train(), "bf16", rows=2), torch.randint(V, (2, 8))
    assert torch.equal(twin(tokens), twin(tokens))


def test_the_model_stays_as_it_is() -> None:
    model = lively(SPECS[0])
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    prepared(model, "bf16", rows=16)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert all(type(weight) is torch.nn.Parameter for weight in model.parameters())
    with pytest.raises(UsageError, match="precision 'fp16' is not one that texts are written in: fp32, bf16"):
        prepared(model, "fp16")
