"""The decoder's spec: what it refuses, and that it is plain data."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, get_args

import pytest

from etude.core.errors import UsageError
from etude.core.spec import field_types
from etude.models.architectures.decoder import Decoder
from etude.nn.feedforward import ACTIVATIONS

REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"width": 100, "heads": 7},
        r"width = 100 is not divisible by heads = 7: choose width 98 or 105, or heads 5 or 10",
    ),
    ({"width": 4, "heads": 8}, r"choose width 8, or heads 4"),
    ({"width": 15, "heads": 3, "positions": "sinusoidal"}, "width = 15 is odd.*choose 16"),
    ({"width": 12, "heads": 4, "positions": "rotary"}, r"head width = 3 \(width 12 / heads 4\) is odd.*width 16"),
    ({"layers": -1}, "layers = -1 is too small: it is 0 or more"),
    ({"heads": 0}, "heads = 0 is too small: it is 1 or more"),
    ({"context": 0}, "context = 0 is too small"),
    ({"dropout": 1.0}, "dropout = 1.0 is not a chance"),
    ({"norm_epsilon": 0.0}, "norm_epsilon = 0.0 is not above 0"),
    ({"norm": "none", "norm_at": "post"}, "norm_at = 'post' says nothing"),
    ({"activation": "swish"}, "not one of: relu, gelu, gelu-tanh"),
]


@pytest.mark.parametrize(("fields", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_cannot_be_built_is_refused_in_one_line(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        Decoder(**fields)
    assert "\n" not in str(caught.value)


def test_a_text_longer_than_the_context_is_refused() -> None:
    spec = Decoder(context=20)
    spec.fits(20)
    with pytest.raises(UsageError, match="a text of 21 tokens is longer than the model's context of 20"):
        spec.fits(21)
    with pytest.raises(UsageError, match="longer than the model's context"):
        spec.flops_per_token(100, context=21)


def test_reads_back_equal(spec: Decoder) -> None:
    again = Decoder.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec
    assert again.fingerprint() == spec.fingerprint()


def test_every_activation_exists() -> None:
    assert set(get_args(field_types(Decoder)["activation"])) == set(ACTIVATIONS)


def test_a_spec_and_its_arithmetic_need_no_torch() -> None:
    code = """
import sys
from etude.models.architectures.decoder import Decoder
spec = Decoder()
spec.parameters(100), spec.flops_per_token(100), spec.fingerprint()
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
