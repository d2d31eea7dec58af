"""The decoders that these tests go through: every option of the spec at least once, each as small as can be."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from etude.models.architectures.decoder import Decoder

VARIANTS: dict[str, dict[str, Any]] = {
    "gpt2": {"activation": "gelu-tanh", "tied": True},
    "untied": {},
    "2017": {"activation": "relu", "norm_at": "post", "positions": "sinusoidal", "scaled_embeddings": True},
    "post-norm, rms": {"norm_at": "post", "norm": "rms", "tied": True},
    "rotary": {"positions": "rotary", "norm": "rms", "biases": False},
    "attention-only": {"feedforward": 0},
    "attention-only, post-norm": {"feedforward": 0, "norm_at": "post", "positions": "sinusoidal"},
    "bare": {"feedforward": 0, "norm": "none", "biases": False, "positions": "none"},
    "no norm": {"norm": "none", "biases": False},
    "no biases": {"biases": False},
    "one head": {"heads": 1},
    "no layers": {"layers": 0, "positions": "none"},
    "dropout": {"dropout": 0.2},
}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=VARIANTS.values(), ids=list(VARIANTS))
def spec(request: pytest.FixtureRequest) -> Decoder:
    return Decoder(**{"layers": 2, "width": 16, "heads": 2, "feedforward": 24, "context": 8, **request.param})
