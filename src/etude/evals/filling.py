"""A safetensors file that is filled from the front: its header first, since its size is known, then rows as they come.

The library writes tensors that lie in memory whole. The format is its own: eight bytes with the length of the header,
the header as JSON, and the tensors one after the other (https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import json
import math
import os
import struct
from pathlib import Path

import torch
from torch import Tensor

Layout = dict[str, tuple[torch.dtype, tuple[int, ...]]]
"""Names of tensors, in their order in the file, with their types and shapes."""

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
}


def header(layout: Layout) -> tuple[bytes, dict[str, int], int]:
    """Return the start of a file, up to its first tensor, the byte at which each tensor begins, and the file's size."""
    entries, begins, end = {}, {}, 0
    for name, (dtype, shape) in layout.items():
        begins[name], end = end, end + math.prod(shape) * dtype.itemsize
        entries[name] = {"dtype": _NAMES[dtype], "shape": shape, "data_offsets": [begins[name], end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that numbers are aligned where the file is mapped
    start = struct.pack("<Q", len(text)) + text
    return start, {name: len(start) + begin for name, begin in begins.items()}, len(start) + end


class Filling:
    """A file that is being filled; a context manager, which closes it.

    What is written goes through the system's calls and not through a mapping: on a full disk those raise an error,
    where a mapping ends the process.

    Args:
        path: of the file.
        layout: what it holds when it is full.
        new: whether to begin anew; else a file of this layout is there already, and is gone on with.
    """

    def __init__(self, path: Path, layout: Layout, *, new: bool) -> None:
        start, self._begins, size = header(layout)
        self._widths = {name: math.prod(shape[1:]) * dtype.itemsize for name, (dtype, shape) in layout.items()}
        self._file = path.open("wb" if new else "r+b")
        if new:
            self._file.write(start)
        self._file.truncate(size)

    def __enter__(self) -> Filling:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, name: str, row: int, values: Tensor) -> None:
        """Write rows of a tensor, from a given one on. They have its type and width, and lie on the CPU."""
        self._file.seek(self._begins[name] + row * self._widths[name])
        self._file.write(values.contiguous().view(torch.uint8).numpy().tobytes())

    def keep(self) -> None:
        """Return when all that was written is on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
