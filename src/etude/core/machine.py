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
        "memory_gb": round(memory() / 1e9, 1),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def memory() -> int:
    """Return the bytes of memory that this machine has, or 0 where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0


def cores() -> int:
    """Return how many cores this process may use, which can be fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def multiplies_bf16() -> bool:
    """Return whether the processor multiplies bfloat16 matrices itself; elsewhere PyTorch imitates it, slowly.

    Only Linux tells; on other systems the answer is no.
    """
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return knows_bf16(told)


def knows_bf16(cpuinfo: str) -> bool:
    """Return whether a `/proc/cpuinfo` names bfloat16 among what the processor can: as `flags` on x86, where `bf16` is
    part of AVX-512 or AMX, and as `Features` on ARM."""
    lines = (line.partition(":") for line in cpuinfo.splitlines() if line.startswith(("flags", "Features")))
    return any(not {"amx_bf16", "avx512_bf16", "bf16"}.isdisjoint(told.split()) for _, _, told in lines)


def give_freed_memory_back() -> None:
    """Have the C allocator return all that was freed to the kernel, where it is glibc's: it would otherwise keep what
    lies between blocks that are in use."""
    if sys.platform.startswith("linux"):
        libc = ctypes.CDLL(None)
        if hasattr(libc, "malloc_trim"):
            libc.malloc_trim(0)


@functools.cache
def keep_freed_memory() -> None:
    """Let the C allocator keep what it is given back, instead of returning it to the kernel after every step.

    Tensors over 128 KB are otherwise mapped and unmapped each time, and the page faults cost more than the arithmetic:
    see LOG.md, 2026-11-21. The process then holds on to its peak, and so does that of a caller who makes runs in it:
    glibc cannot tell what its switches were, so they are not put back. Elsewhere than on glibc nothing happens.

    PyTorch is also told to ask for huge pages for its large tensors, which it heeds where it has made none before: a
    step of 53 M parameters then takes 3% less.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(-4, 0)  # M_MMAP_MAX: never take a mapping of its own for a large block
        libc.mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD: keep up to 1 GiB at the top of the heap
        libc.mallopt(-2, 1 << 26)  # M_TOP_PAD: grow the heap by 64 MiB at a time
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
