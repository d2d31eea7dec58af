"""The cache: the same scores as without, in no more memory than is needed."""

from __future__ import annotations

import pytest
import torch

from etude.core.errors import UsageError
from etude.models.architectures.base import Architecture
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder_decoder import EncoderDecoder
from etude.models.cache import FIRST, SLACK, Cache
from etude.models.transformer import Transformer
from etude.nn.attention.banded import Banded
from etude.nn.attention.sliding import Sliding

V, LENGTHS = 13, (3, 1, 1, 2, 1)


def lively(spec: Architecture) -> Transformer:
    """Build a model whose weights are large enough that every part matters."""
    model, generator = spec.build(V).eval(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    return model


def by_parts(model: Transformer, tokens: torch.Tensor, lengths: tuple[int, ...], **given: torch.Tensor) -> torch.Tensor:
    past, at, scores = Cache(model.spec.context), 0, []
    with torch.inference_mode():
        for length in lengths:
            scores.append(model(tokens[:, at : at + length], past=past, **given))
            at += length
    return torch.cat(scores, dim=1)


def test_reading_by_parts_gives_the_same_scores(spec: Decoder) -> None:
    model, tokens = lively(spec), torch.randint(V, (3, 8))
    torch.testing.assert_close(by_parts(model, tokens, LENGTHS), model(tokens), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("attention", [Sliding(window=5), Banded(window=5), Sliding(window=200)], ids=str)
def test_long_texts_move_windows_and_double_the_room(attention: Sliding | Banded) -> None:
    spec = Decoder(layers=2, width=8, heads=2, feedforward=0, context=112, attention=attention, positions="rotary")
    model, tokens = lively(spec), torch.randint(V, (2, 112))
    lengths = (7, *([1] * 40), 30, *([1] * 35))
    torch.testing.assert_close(by_parts(model, tokens, lengths), model(tokens), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [{}, {"kv_heads": 2}, {"norm_at": "post", "positions": "sinusoidal"}], ids=str)
def test_a_source_is_read_once(shape: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    spec = EncoderDecoder(layers=2, width=16, heads=4, feedforward=24, context=8, **shape)  # type: ignore[arg-type]
    model, tokens = lively(spec), torch.randint(V, (3, 8))
    source, present = torch.randint(V, (3, 6)), torch.arange(6) < torch.tensor([[6], [2], [4]])
    whole = model(tokens, source=source, source_present=present)
    past = Cache(8)
    with torch.inference_mode():
        first = model(tokens[:, :3], source=source, source_present=present, past=past)
        monkeypatch.delattr(type(model), "encode")
        parts = [first, *(model(tokens[:, n : n + 1], source_present=present, past=past) for n in range(3, 8))]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-5, atol=1e-5)


def test_rows_change_places() -> None:
    spec = EncoderDecoder(layers=1, width=16, heads=2, feedforward=0, context=8)
    model, tokens, source = lively(spec), torch.randint(V, (2, 3)), torch.randint(V, (2, 5))
    rows, past = torch.tensor([1, 1, 0]), Cache(8)
    with torch.inference_mode():
        model(tokens[:, :2], source=source, past=past)
        past.select(rows)
        found = model(tokens[rows][:, 2:], past=past)
    torch.testing.assert_close(found, model(tokens[rows], source=source[rows])[:, 2:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "places"),
    [({}, 128), ({"attention": Sliding(4)}, 4 + SLACK), ({"heads": 8, "kv_heads": 2}, 128), ({"context": 70}, 70)],
    ids=str,
)
def test_room_is_for_groups_and_windows_alone(options: dict[str, object], places: int) -> None:
    fields: dict[str, object] = {"layers": 1, "width": 16, "heads": 2, "context": 500, **options}
    spec = Decoder(**fields)  # type: ignore[arg-type]
    model, past = lively(spec), Cache(spec.context)
    with torch.inference_mode():
        for _ in range(FIRST + 2):
            model(torch.zeros(3, 1, dtype=torch.long), past=past)
    assert past.numbers == 2 * 3 * places * spec.attention_shape().groups * spec.head_width


def test_a_cache_keeps_no_graph() -> None:
    model = Decoder(context=8).build(V)
    with pytest.raises(UsageError, match=r"a cache keeps no gradients: call the model under torch.no_grad\(\)"):
        model(torch.zeros(1, 2, dtype=torch.long), past=Cache(8))


@torch.no_grad()
def test_no_more_is_read_than_the_context() -> None:
    model, past = Decoder(context=4).build(V), Cache(4)
    model(torch.zeros(1, 4, dtype=torch.long), past=past)
    with pytest.raises(UsageError, match="a text of 5 tokens is longer than the model's context of 4"):
        model(torch.zeros(1, 1, dtype=torch.long), past=past)


@torch.no_grad()
def test_what_does_not_go_with_a_past_is_refused() -> None:
    model, past, tokens = Decoder(context=8).build(V), Cache(8), torch.zeros(1, 2, dtype=torch.long)
    model(tokens, past=past)
    with pytest.raises(UsageError, match="a past keeps one document to a text: leave documents out, or past"):
        model(tokens[:, :1], documents=tokens[:, :1], past=past)
    with pytest.raises(UsageError, match="present says which of 1 positions are text, and there are 3"):
        model(tokens[:, :1], present=tokens[:, :1] == 0, past=past)
