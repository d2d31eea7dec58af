"""The peak of matrix products: a plausible speed, measured once; and a training's share of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from etude.nn import peak
from etude.train import utilisation as module
from etude.train.utilisation import utilisation

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(peak.SIDES, "cpu", 256)
    peak._measured.cache_clear()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_is_a_speed_of_this_machine(precision: str):
    assert 1e8 < peak.peak_flops(CPU, precision) < 1e15


def test_it_is_measured_once_for_each_precision(monkeypatch: pytest.MonkeyPatch):
    first = peak.peak_flops(CPU, "fp32")
    monkeypatch.setattr(torch, "mm", lambda *args, **kwargs: pytest.fail("measured again"))
    assert peak.peak_flops(CPU, "fp32") == first


def test_it_is_the_work_over_the_best_time(monkeypatch: pytest.MonkeyPatch):
    clock = iter([0.0, 3.0, 10.0, 12.0, 20.0, 20.5, 30.0, 34.0, 40.0, 41.0])
    monkeypatch.setattr(peak.time, "perf_counter", lambda: next(clock))
    assert peak.peak_flops(CPU, "fp32") == 2 * 256**3 / 0.5


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
