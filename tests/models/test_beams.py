"""Beam search against every text that there is."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from etude.models.architectures.base import Architecture
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder_decoder import EncoderDecoder
from etude.models.beams import beam_search, length_penalty
from etude.models.generation import generate
from etude.models.reading import Reader
from etude.models.sampling import Sampling
from etude.models.transformer import Transformer
from etude.models.writing import Request

V, END, MOST = 4, 3, 3
SHAPE: dict[str, Any] = {"layers": 1, "width": 16, "heads": 2, "feedforward": 24, "context": 8}
SPECS = [Decoder(**SHAPE), EncoderDecoder(**SHAPE)]
PROMPTS = [[0], [1, 2, 0]]
every_spec = pytest.mark.parametrize("spec", SPECS, ids=["decoder", "encoder-decoder"])


class Digits:
    """A tokenizer of three digits and the end token."""

    vocabulary, end, specials, by_piece, lossless = V, END, dict[str, int](), True, True

    def encode(self, text: str) -> list[int]:
        return [int(c) for c in text]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(map(str, ids))

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        return self.decode(ids).encode()

    def piece(self, id: int) -> str:
        return str(id)

    def save(self, folder: Path) -> None:
        raise NotImplementedError


def lively(spec: Architecture, seed: int = 0) -> Transformer:
    model, generator = spec.build(V).eval(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.4 * torch.randn(weight.shape, generator=generator))
    return model


def every_text() -> list[tuple[int, ...]]:
    """Return every text of at most three tokens that ends with the end token, or is three long and does not."""
    ended = [(*t, END) for n in range(MOST) for t in itertools.product(range(END), repeat=n)]
    return ended + list(itertools.product(range(END), repeat=MOST))


@torch.no_grad()
def log_probability(model: Transformer, prompt: list[int], ids: tuple[int, ...]) -> float:
    given, before = {}, prompt
    if isinstance(model.spec, EncoderDecoder):
        given, before = {"source": torch.tensor([prompt])}, [END]
    scores = model(torch.tensor([[*before, *ids]]), **given)[0].log_softmax(-1)
    return float(sum(scores[len(before) - 1 + n, token] for n, token in enumerate(ids)))


def searched(model: Transformer, beams: int, power: float) -> list[Any]:
    sampling = Sampling(temperature=0, beams=beams, length_penalty=power, max_tokens=MOST)
    return generate(model, Digits(), PROMPTS, sampling)


@every_spec
@pytest.mark.parametrize("power", [0.0, 0.6, 2.0])
def test_enough_beams_find_the_best_text_of_all(spec: Architecture, power: float) -> None:
    model = lively(spec)
    for prompt, found in zip(PROMPTS, searched(model, V**MOST, power), strict=True):
        scored = {t: log_probability(model, prompt, t) / length_penalty(len(t), power) for t in every_text()}
        assert found.ids == max(scored, key=lambda text: scored[text])
        assert found.log_probability == pytest.approx(log_probability(model, prompt, found.ids), abs=1e-4)


def test_one_beam_is_greedy() -> None:
    for seed in range(5):
        model = lively(SPECS[0], seed)
        greedy = generate(model, Digits(), PROMPTS, Sampling(temperature=0, max_tokens=MOST))
        reader = Reader(model, 8, V, torch.device("cpu"))
        requests = [Request(n, tuple(prompt), None, MOST) for n, prompt in enumerate(PROMPTS)]
        found = beam_search(reader, requests, Digits(), Sampling(temperature=0))
        assert [texts[0].ids for texts in found] == [text.ids for text in greedy]


@every_spec
def test_a_search_does_not_depend_on_its_company(spec: Architecture) -> None:
    model = lively(spec)
    sampling = Sampling(temperature=0, beams=3, length_penalty=0.6, max_tokens=MOST)
    alone = [generate(model, Digits(), [prompt], sampling)[0].ids for prompt in PROMPTS]
    assert [text.ids for text in generate(model, Digits(), PROMPTS, sampling)] == alone


def test_the_length_penalty_is_the_papers() -> None:
    assert length_penalty(1, 0.7) == 1
    assert length_penalty(13, 1.0) == 3
    assert length_penalty(7, 0.0) == 1


def test_a_penalty_on_length_favours_long_texts() -> None:
    lengths = [
        sum(len(text.ids) for text in searched(lively(SPECS[0], seed), 8, p)) for seed in range(4) for p in (0, 4)
    ]
    assert all(short <= long for short, long in zip(lengths[::2], lengths[1::2], strict=True))
    assert lengths[::2] != lengths[1::2]


def test_a_search_that_ends_early_has_its_text_without_the_end() -> None:
    model = SPECS[0].build(V).eval()
    with model.tapped({"logits": lambda s: s * 0 + torch.tensor([1.0, 2.0, 0.0, 1.9])}):
        (found,) = generate(model, Digits(), [[0]], Sampling(temperature=0, beams=2, max_tokens=3))
    assert (found.ids, found.text, found.stopped) == ((END,), "", "end")
