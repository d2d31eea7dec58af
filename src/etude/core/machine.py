"""What this machine is, and what it does well. Nothing here asks PyTorch."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import sys
from pathlib import Path
from typing import Any


@functools.cache
def machine() -> dict[str, Any]:
    """Return what this machine is, without naming it or its user."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(_memory() / 1e9, 1),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0


@functools.cache
def multiplies_bf16() -> bool:
    """Return whether the processor multiplies bfloat16 matrices itself; elsewhere PyTorch imitates it, slowly."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    flags = next((line for line in told.splitlines() if line.startswith("flags")), "").split()
    return "amx_bf16" in flags or "avx512_bf16" in flags


@functools.cache
def keep_freed_memory() -> None:
    """Let the C allocator keep what it is given back, instead of returning it to the kernel after every step.

    Tensors over 128 KB are otherwise mapped and unmapped each time, and the page faults cost more than the arithmetic:
    see LOG.md, 2026-11-21. The process then holds on to its peak. Only glibc has these switches; elsewhere nothing
    happens.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(-4, 0)  # M_MMAP_MAX: never take a mapping of its own for a large block
        libc.mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD: keep up to 1 GiB at the top of the heap
        libc.mallopt(-2, 1 << 26)  # M_TOP_PAD: grow the heap by 64 MiB at a time
