"""The comparison with PyTorch's modules: it agrees, and it would see a mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.evals import parity
from etude.evals.parity import RUNGS, Sizes, differences
from etude.evals.recipes import Parity


@pytest.mark.parametrize("rung", RUNGS)
def test_each_rung_computes_what_pytorch_does(rung: str) -> None:
    output, gradient = differences(rung, Sizes(), 0, torch.float64)
    assert output < 1e-13 and gradient < 1e-12
    output, gradient = differences(rung, Sizes(width=16, heads=2), 1, torch.float32)
    assert output < 1e-4 and gradient < 1e-3


@pytest.mark.parametrize(
    ("rung", "broken"),
    [
        ("single head", "copy_attention"),
        ("multi-head", "copy_attention"),
        ("block", "copy_norm"),
        ("classifier", "copy_map"),
        ("BERT", "copy_norm"),
        ("GPT", "copy_attention"),
        ("encoder-decoder", "copy_block"),
    ],
)
def test_weights_that_differ_are_seen(rung: str, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, broken, lambda *_: None)
    torch.manual_seed(0)  # PyTorch's own starting weights stand in
    output, gradient = differences(rung, Sizes(), 0, torch.float64)
    assert output > 1e-3 and gradient > 1e-3


def test_a_wrong_formula_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = parity.scaled_dot_product
    monkeypatch.setattr(parity, "scaled_dot_product", lambda q, k, v, mask: right(q * 1.001, k, v, mask))
    output, _ = differences("attention", Sizes(), 0, torch.float64)
    assert output > 1e-5


def test_the_recipe(tmp_path: Path) -> None:
    result = Lab(tmp_path, threads=1, quiet=True).run(Parity(width=16, heads=2, layers=1, length=6)).result
    assert list(result["rungs"]) == list(RUNGS)
    for row in result["rungs"].values():
        assert row["fp64"]["output"] <= row["fp32"]["output"] + 1e-12 and row["against"]
        assert row["fp64"]["gradient"] < 1e-12
    assert result["torch"] == torch.__version__.partition("+")[0]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"width": 20, "heads": 3}, "width = 20 is not divisible by twice heads = 3"),
        ({"layers": 0}, "layers = 0 is too small"),
        ({"length": 3}, "length = 3 is too short for 3 texts"),
    ],
)
def test_sizes_that_cannot_be(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Parity(**fields)
