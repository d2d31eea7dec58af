"""A cache that is cropped and a reader that begins again: the scores of a text read anew."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from etude.core.errors import UsageError
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder_decoder import EncoderDecoder
from etude.models.architectures.retro import Retro
from etude.models.cache import Cache
from etude.models.generation import generate, reader_for, stream
from etude.models.sampling import Sampling
from etude.models.transformer import Transformer
from etude.nn.attention.sliding import Sliding
from etude.text.tokenizers.live import ByteTokenizer

BYTES = ByteTokenizer()
SHAPES = {
    "learned": Decoder(layers=2, width=16, heads=2, feedforward=24, context=200),
    "rotary, groups": Decoder(
        layers=2, width=16, heads=4, kv_heads=2, feedforward=0, context=200, positions="rotary", norm_at="post"
    ),
}
WINDOWED = Decoder(layers=2, width=16, heads=2, feedforward=0, context=200, attention=Sliding(5))


def lively(spec: object) -> Transformer:
    model, generator = spec.build(257).eval(), torch.Generator().manual_seed(0)  # type: ignore[attr-defined]
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    return model


@pytest.mark.parametrize("spec", SHAPES.values(), ids=list(SHAPES))
@pytest.mark.parametrize("kept", [0, 1, 63, 64, 65, 99, 100])
def test_a_cropped_cache_goes_on_as_if_nothing_had_come_after(spec: Decoder, kept: int) -> None:
    model, tokens, other = lively(spec), torch.randint(257, (2, 100)), torch.randint(257, (2, 90))
    past = Cache(200)
    with torch.inference_mode():
        model(tokens, past=past)
        assert past.crop(kept) and past.length == kept
        found = model(other, past=past)
        whole = model(torch.cat((tokens[:, :kept], other), dim=1))[:, kept:]
    torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-4)


def test_a_window_forgets_nothing() -> None:
    model, past = lively(WINDOWED), Cache(200)
    with torch.inference_mode():
        model(torch.randint(257, (1, 20)), past=past)
    assert not past.crop(10) and past.crop(20) and past.length == 20
    with pytest.raises(UsageError, match="length = 21: the cache has read 20 positions"):
        past.crop(21)


@pytest.mark.parametrize(
    "spec",
    [
        *SHAPES.values(),
        WINDOWED,
        Retro(layers=2, width=16, heads=2, feedforward=24, context=200, chunk=4, cross_from=1),
    ],
)
def test_a_reader_begins_again(spec: object) -> None:
    model, sampling = lively(spec), Sampling(max_tokens=5)
    reader = reader_for(model, BYTES)
    texts = ["abcdef", "abcdef", "abcdefgh", "abc", "xyz", "x", "x" + 80 * "ab", "x" + 70 * "ab"]
    for number, text in enumerate(texts):
        pieces = "".join(stream(model, BYTES, text, sampling, number=number, reader=reader))
        assert pieces == generate(model, BYTES, [text], sampling, first=number)[0].text


def test_only_the_end_that_differs_is_read() -> None:
    model = lively(SHAPES["learned"])
    reader, lengths = reader_for(model, BYTES), list[int]()
    scored = reader.model

    def count(tokens: Tensor, **given: Tensor) -> Tensor:
        lengths.append(tokens.shape[1])
        return scored(tokens, **given)

    reader.model = count
    for text in ([1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4, 5, 6], [1, 2, 9], [7, 7]):
        reader.begin([text])
    assert lengths == [4, 1, 2, 1, 2]
    reader.forget()
    reader.begin([[7, 7]])
    assert lengths[-1] == 2


def test_what_reads_sources_goes_on_from_nothing() -> None:
    spec = EncoderDecoder(layers=1, width=16, heads=2, feedforward=0, context=20)
    with pytest.raises(UsageError, match="goes on from no text: give a decoder or a retro"):
        reader_for(lively(spec), BYTES)
