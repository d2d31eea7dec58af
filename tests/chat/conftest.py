"""Models to talk with: one of random weights that are large enough for every part to matter, and one that writes what
it is told to."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from etude.models.architectures.base import Architecture
from etude.models.architectures.decoder import Decoder
from etude.models.transformer import Transformer
from etude.text.tokenizers.live import ByteTokenizer

BYTES = ByteTokenizer()
Lively = Callable[..., Transformer]
Writer = Callable[..., Transformer]


@pytest.fixture
def lively() -> Lively:
    """Makes a model of random weights: a small decoder, or what a spec says."""

    def make(spec: Architecture | None = None, **shape: Any) -> Transformer:
        torch.manual_seed(0)
        sizes: dict[str, Any] = {"layers": 2, "width": 16, "heads": 2, "feedforward": 24, "context": 160, **shape}
        model, generator = (spec or Decoder(**sizes)).build(BYTES.vocabulary).eval(), torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
        return model

    return make


@pytest.fixture
def writer() -> Writer:
    """Makes a model that says a text after a colon and then the end, whatever was said: a bigram model by its weights.
    No letter of the text may come twice, or have to be followed by another than where it stands elsewhere."""

    def make(text: str, context: int = 200, after: str = ":") -> Transformer:
        model = Decoder(
            layers=0, width=257, heads=1, feedforward=0, context=context, positions="none", norm="none", biases=False
        ).build(257)
        ids = [*(after + text).encode(), BYTES.end]
        with torch.no_grad():
            for weight in model.parameters():
                weight.zero_()
            model.embed.W_E.copy_(torch.eye(257))  # type: ignore[union-attr]
            for a, b in itertools.pairwise(ids):
                model.unembed.W_U[a, b] = 50.0  # type: ignore[index, union-attr]
        return model.eval()

    return make
