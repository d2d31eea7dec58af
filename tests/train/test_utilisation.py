"""The share of a machine's speed that a training had."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from etude.core.run import Run
from etude.train import utilisation as module
from etude.train.recipes import Train
from etude.train.utilisation import utilisation

CPU = torch.device("cpu")


def rows(*rates: float) -> list[dict[str, Any]]:
    return [{"step": 0}, *({"step": n, "timing": {"per_second": rate}} for n, rate in enumerate(rates, 1))]


def test_the_share_is_of_the_models_flops(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "peak_flops", lambda device, precision: 1e12)
    found = utilisation(rows(100.0, 400.0, 90_000.0), 5e8, 1e14, CPU, "bf16")
    assert found == {"mfu": 3 * 5e8 * 400 / 1e12, "peak_flops": 1e12}
    four = utilisation(rows(400.0), 5e8, 1e14, CPU, "bf16", ranks=4)
    assert four == {"mfu": 0.15, "peak_flops": 4e12}


@pytest.mark.parametrize(("flops", "logged"), [(9e12, rows(100.0)), (1e14, rows()), (1e14, [])])
def test_nothing_is_measured_for_little(flops: float, logged: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "peak_flops", lambda *args: pytest.fail("measured"))
    assert utilisation(logged, 5e8, flops, CPU, "bf16") == {}


def test_it_is_beside_the_result_and_no_part_of_it(
    tiny: Callable[..., Train], trained: Callable[[Train], Run], lab: Any, monkeypatch: pytest.MonkeyPatch
):
    plain = trained(tiny())
    assert plain.result["timing"].keys() == {"training_seconds", "seconds"}, "too small to be worth it"
    monkeypatch.setattr(module, "MEASURED_FROM", 0.0)
    monkeypatch.setattr(module, "peak_flops", lambda device, precision: 1e12)
    measured = lab.run(tiny())
    assert 0 <= measured.result["timing"]["mfu"] < 1
    assert {**measured.result, "timing": 0} == {**plain.result, "timing": 0}
