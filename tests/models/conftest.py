"""The decoders that these tests go through: every option of the spec at least once, each as small as can be."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from etude.models.architectures.decoder import Decoder
from etude.nn.attention.banded import Banded
from etude.nn.attention.sliding import Sliding

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
    "grouped queries": {"heads": 4, "kv_heads": 2},
    "one group": {"heads": 4, "kv_heads": 1, "positions": "rotary"},
    "swiglu": {"gated": True, "activation": "silu", "norm": "rms", "biases": False},
    "gated, biases": {"gated": True},
    "parallel": {"parallel": True, "positions": "rotary", "rotary_fraction": 0.5},
    "parallel, attention-only": {"parallel": True, "feedforward": 0},
    "sliding": {"attention": Sliding(window=3)},
    "banded": {"attention": Banded(window=3)},
    "mup": {"mup_base": 8, "tied": True},
}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=VARIANTS.values(), ids=list(VARIANTS))
def spec(request: pytest.FixtureRequest) -> Decoder:
    return Decoder(**{"layers": 2, "width": 16, "heads": 2, "feedforward": 24, "context": 8, **request.param})
