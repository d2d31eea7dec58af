"""A model from outside as one of ours: weights in, tensor by tensor, and never twice in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor

from etude.core.errors import DamagedError, UsageError
from etude.models.formats.base import Row
from etude.models.hollow import hollow, materialised
from etude.models.sources import Source, Stored
from etude.models.transformer import Transformer
from etude.text.tokenizers.live import Tokenizer

Precision = Literal["fp32", "bf16", "fp16", "file"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_STORED = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def model_from(
    source: Source, dtype: Precision = "fp32", progress: Callable[[int, int], None] = lambda done, total: None
) -> Transformer:
    """Return the model of a source, on the CPU and in evaluation mode.

    One tensor of theirs is mapped into memory at a time, the largest first, copied to ours and let go, so the peak is
    the weights, or twice the largest tensor where that is more.

    Args:
        source: what was opened.
        dtype: precision of the weights; `file` keeps that of the file (the widest, where it has several).
        progress: is told how many numbers were read, of how many.

    Raises:
        DamagedError: a tensor is missing, misshapen or one too many.
        UsageError: weights are quantised, or two tensors differ that are one in our model.
    """
    reading = source.reading
    model = hollow(reading.spec, reading.vocabulary)
    rows = source.format.table(reading.spec)
    wanted = _expected(rows, model)
    _compare(source, wanted)
    _compare_twins(source)
    kept = DTYPES.get(dtype) or _widest(source.tensors[row.theirs] for row in rows)
    rows.sort(key=lambda row: math.prod(wanted[row.theirs]), reverse=True)
    total, done, weights = sum(map(math.prod, wanted.values())), 0, dict[str, Tensor]()
    for row in rows:
        weights |= _taken(row, source.tensors[row.theirs], kept)
        done += math.prod(wanted[row.theirs])
        progress(done, total)
    return materialised(model, weights)


def _taken(row: Row, stored: Stored, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return our tensors of one of theirs, as copies."""
    parts = row.take(read(stored))
    copies = (part.to(dtype, copy=True, memory_format=torch.contiguous_format) for part in parts)
    return dict(zip(row.ours, copies, strict=True))


def read(stored: Stored) -> Tensor:
    """Return one tensor of a file. It may be a view of the file's pages, which are held until it is let go."""
    if stored.file.suffix == ".bin":
        import numpy as np

        count = math.prod(stored.shape)
        found = np.fromfile(stored.file, "<f4", count, offset=stored.at).reshape(stored.shape)
        return torch.from_numpy(found.astype(np.float32, copy=False))
    from safetensors import safe_open

    with safe_open(stored.file, "pt") as file:
        return file.get_tensor(stored.name)


def _expected(rows: Iterable[Row], model: Transformer) -> dict[str, tuple[int, ...]]:
    """Return the shape that each of their tensors should have, from the shapes of ours."""
    nothing = torch.zeros(1, dtype=torch.uint8)  # PyTorch's code for tensors without data takes 70 MB to load
    held = {name: nothing.expand(weight.shape) for name, weight in model.state_dict().items()}
    return {row.theirs: tuple(row.give(tuple(held[name] for name in row.ours)).shape) for row in rows}


def _compare(source: Source, wanted: dict[str, tuple[int, ...]]) -> None:
    """Raise the error that names the first tensor that is not as the configuration says."""
    where = f"the weights in {str(source.path)!r}"
    for name, shape in wanted.items():
        found = source.tensors.get(name)
        if found is None:
            raise DamagedError(f"{where} lack the tensor {name} {list(shape)}: fetch them again, or correct the config")
        if found.shape != shape:
            raise DamagedError(
                f"{where} do not fit the configuration: {name} is {list(found.shape)}, and it says {list(shape)}"
            )
        if found.dtype not in _STORED:
            raise UsageError(f"{where}: {name} is {found.dtype}, which Etude does not read: fetch them unquantised")
    twins = source.format.twins(source.reading.spec)
    for name, found in source.tensors.items():
        if name not in wanted and name not in twins and not source.format.is_ignorable(name):
            raise DamagedError(
                f"{where} have a tensor {name} {list(found.shape)} that the configuration has no place for: they are of"
                " another class, or of another model"
            )


def _compare_twins(source: Source) -> None:
    """Raise UsageError where a tensor that the configuration says is another once more is not."""
    for name, other in source.format.twins(source.reading.spec).items():
        if name in source.tensors and not torch.equal(read(source.tensors[name]), read(source.tensors[other])):
            raise UsageError(
                f"{source.path}: the configuration ties {name} to {other}, and the two differ: set tie_word_embeddings"
                " to false in config.json if the model has both"
            )


def _widest(tensors: Iterable[Stored]) -> torch.dtype:
    found = {_STORED[stored.dtype] for stored in tensors}
    widest = found.pop()
    for other in found:
        widest = torch.promote_types(widest, other)
    return widest


def check_tokenizer(tokenizer: Tokenizer, vocabulary: int, where: str) -> str | None:
    """Return a remark where an embedding has more rows than the tokenizer has tokens, as one that was padded to a round
    number has; None where they are as many.

    Raises:
        UsageError: the embedding has fewer.
    """
    if tokenizer.vocabulary > vocabulary:
        raise UsageError(
            f"{where}: the tokenizer has {tokenizer.vocabulary:,} tokens and the embedding {vocabulary:,} rows: they"
            " are not of one model; put the model's own tokenizer beside it"
        )
    if tokenizer.vocabulary == vocabulary:
        return None
    return f"the embedding has {vocabulary:,} rows for {tokenizer.vocabulary:,} tokens: the rest is padding"
