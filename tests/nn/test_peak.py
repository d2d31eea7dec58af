"""The peak of matrix products: a plausible speed, measured once."""

from __future__ import annotations

import pytest
import torch

from etude.nn import peak

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
