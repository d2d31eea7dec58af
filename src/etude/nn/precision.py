"""Where the arithmetic happens, and in what precision."""

from __future__ import annotations

import torch

from etude.core.errors import UsageError


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which matrix products have a recipe's precision: `fp32`, or `bf16` with fp32 weights."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def device_named(name: str) -> torch.device:
    """Return a device of this machine.

    Raises:
        UsageError: it is not here.
    """
    here = ["cpu"]
    here += ["cuda"] if torch.cuda.is_available() else []
    here += ["mps"] if torch.backends.mps.is_available() else []
    if name.partition(":")[0] not in here:
        raise UsageError(f"device {name!r} is not on this machine; it has: {', '.join(here)}")
    return torch.device(name)
