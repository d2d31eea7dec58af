"""Where the arithmetic happens, and in what precision."""

from __future__ import annotations

import torch
from torch import Tensor

from etude.core.errors import UsageError
from etude.core.world import world


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which matrix products have a recipe's precision: `fp32`, or `bf16` with fp32 weights."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def lowered(x: Tensor) -> Tensor:
    """Return an activation in the precision that matrix products have here, for a part whose maps all read it: left to
    themselves under autocast, each would make a copy of its own."""
    if x.dtype != torch.float32 or not torch.is_autocast_enabled(x.device.type):
        return x
    return x.to(torch.get_autocast_dtype(x.device.type))


def device_named(name: str) -> torch.device:
    """Return a device of this machine. Where several processes work together `cuda` is another GPU for each, and is
    made its current one.

    Raises:
        UsageError: it is not here, or is the same for several processes.
    """
    here = ["cpu"]
    here += ["cuda"] if torch.cuda.is_available() else []
    here += ["mps"] if torch.backends.mps.is_available() else []
    if name.partition(":")[0] not in here:
        raise UsageError(f"device {name!r} is not on this machine; it has: {', '.join(here)}")
    process = world()
    if process.size == 1 or not name.startswith("cuda"):
        return torch.device(name)
    if name != "cuda" or process.local_rank >= torch.cuda.device_count():
        raise UsageError(
            f"device {name!r} cannot be that of {process.local_size} ranks on a machine with"
            f" {torch.cuda.device_count()} GPUs: each needs its own; set --device cuda, and start as many as there are"
        )
    device = torch.device("cuda", process.local_rank)
    torch.cuda.set_device(device)
    return device
