"""What share of a machine's speed a training had: model FLOPs utilisation (Chowdhery et al. 2022, appendix B)."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

import torch

from etude.nn.peak import peak_flops

MEASURED_FROM = 1e13
"""FLOPs of a training from which the peak is measured: a smaller one would be longer for it."""


def utilisation(
    rows: Iterable[dict[str, Any]], flops_per_token: float, flops: float, device: torch.device, precision: str,
    ranks: int = 1,
) -> dict[str, float]:  # fmt: skip
    """Return `mfu` and `peak_flops` for the timing of a result, or nothing for a small training.

    The training's speed is the median over the rows of its record, of stepping alone. Its FLOPs are those of the model:
    what is computed twice to save memory counts once. The peak is that of all devices together.

    Args:
        rows: of the record.
        flops_per_token: of one position's forward pass; a step takes three times as many.
        flops: of the whole training.
        device: of this process.
        precision: of the matrix products.
        ranks: how many processes took part, each with such a device.
    """
    rates = [row["timing"]["per_second"] for row in rows if "per_second" in row.get("timing", {})]
    if flops < MEASURED_FROM or not rates:
        return {}
    peak = ranks * peak_flops(device, precision)
    return {"mfu": round(3 * flops_per_token * statistics.median(rates) / peak, 4), "peak_flops": peak}
