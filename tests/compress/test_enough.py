"""A compressor that was fitted to too little text is warned of, with both numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from etude.compress.enough import warning_of
from etude.compress.methods.base import Method
from etude.compress.methods.mean import Mean
from etude.compress.methods.pca import Pca
from etude.compress.methods.resample import Resample
from etude.compress.methods.svd import Svd
from etude.compress.recipes import Compress
from etude.core.lab import Lab
from etude.train.recipes import Train


@pytest.mark.parametrize(
    ("tokens", "parameters", "width"), [(10, 16, 16), (100, 160, 16), (11, 17, 16), (1, 0, 16), (0, 0, 1)]
)
def test_enough_is_ten_tokens_for_each_parameter_of_an_output(tokens: int, parameters: int, width: int) -> None:
    assert warning_of(tokens, parameters, width) is None
    if parameters:
        assert warning_of(tokens - 1, parameters, width) is not None


def test_the_warning_has_both_numbers_and_a_remedy() -> None:
    said = warning_of(320, 656, 16)
    assert said == (
        "fitted to 320 tokens, few for 656 parameters of 16 outputs: 10 for each parameter of an output are 410; raise"
        " fit_tokens, or take a smaller size"
    )


def test_by_then_a_regression_errs_a_ninth_more_than_the_best() -> None:
    """What the rule of thumb rests on: with 10 tokens a parameter, least squares loses 1.11 times the noise on other
    text, and with 2 twice."""
    draw = torch.Generator().manual_seed(0)

    def loses(tokens: int, parameters: int = 40) -> float:
        x, y = (torch.randn(tokens, n, generator=draw, dtype=torch.float64) for n in (parameters, 200))
        fitted = torch.linalg.lstsq(x, y).solution
        return 1 + float((fitted**2).sum() / 200)  # what is fitted to pure noise, on inputs of variance 1

    assert loses(400) == pytest.approx(1 + 1 / 9, abs=0.02)
    assert loses(80) > 1.9


@pytest.mark.parametrize(
    ("method", "site", "warned"),
    [
        (Pca(4), "L0.attn.out", True),
        (Pca(1), "L0.attn.out", False),
        (Mean(), "L0.attn.out", False),
        (Resample(32), "L0.attn.out", False),
        (Svd(4), "L0.attn.W_O", False),
    ],
)
def test_a_run_keeps_the_warning(method: Method, site: str, warned: bool, lab: Lab, trained: Train) -> None:
    run = lab.run(Compress(trained, site, method, fit_tokens=64, evaluate_tokens=32, sequences=0))
    assert ("few_tokens" in run.provenance) == warned
    if warned:
        parameters = run.result["cost"]["parameters"]
        assert f"fitted to 64 tokens, few for {parameters} parameters of 16 outputs" in run.provenance["few_tokens"]
        enough = lab.run(replace(run.recipe, fit_tokens=640))
        assert "few_tokens" not in enough.provenance
