"""How fast this machine multiplies matrices at best: what the speed of a training is a share of."""

from __future__ import annotations

import functools
import time

import torch

SIDES = {"cpu": 2048, "cuda": 8192, "mps": 4096}
"""Side of the matrices: products of 2,048 are as fast as larger ones on a CPU; an H200 wants more to be busy."""

TIMES = 5


def peak_flops(device: torch.device, precision: str) -> float:
    """Return the FLOPs a second of square matrix products on a device, as many threads as PyTorch now has.

    The best of `TIMES` products, after one to warm up: what else the machine does can only make one slower. It takes a
    fraction of a second, is measured once in a process, and multiplies random numbers, since a GPU is faster with ones.

    Args:
        device: where.
        precision: `fp32`, as PyTorch is set to multiply it, or `bf16`.
    """
    return _measured(str(device), precision, torch.get_num_threads())


@functools.cache
def _measured(name: str, precision: str, threads: int) -> float:
    device = torch.device(name)
    side = SIDES.get(device.type, SIDES["cpu"])
    dtype, numbers = torch.bfloat16 if precision == "bf16" else torch.float32, torch.Generator().manual_seed(0)
    a, b = (torch.randn(side, side, generator=numbers).to(device, dtype) for _ in range(2))
    out = a @ b
    seconds = []
    for _ in range(TIMES):
        _wait(device)
        began = time.perf_counter()
        torch.mm(a, b, out=out)
        _wait(device)
        seconds.append(time.perf_counter() - began)
    return 2.0 * side**3 / min(seconds)


def _wait(device: torch.device) -> None:
    """Return when a device has done what it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
