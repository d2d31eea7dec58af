"""llama2.c's binary checkpoints (Karpathy 2023, the first version of its format), such as the TinyStories models'.

Little-endian: seven int32 (width, hidden width, layers, heads, heads of keys and values, vocabulary, context), then the
weights in float32, each kind for all layers in a row. A negative vocabulary means that the unembedding has weights of
its own. Between the last norm and those stand the rotary angles' cosines and sines, which nothing needs.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from etude.core.errors import DamagedError, UsageError
from etude.models.architectures.base import Architecture
from etude.models.architectures.decoder import Decoder
from etude.models.formats._config import Config
from etude.models.formats._rows import dense, heads_read, heads_write, plain, transposed
from etude.models.formats.base import Format, Reading, Row

if TYPE_CHECKING:
    from torch import Tensor

HEADER = struct.Struct("<7i")
_FIELDS: tuple[str, ...] = ("dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "max_seq_len")
_LATER_VERSIONS = 0x616B3432
"""What the formats of version 1 and 2 begin with: `ak42`."""


@dataclass(frozen=True)
class Llama2c(Format):
    """llama2.c's `.bin`: Llama's shape, with rotary pairs of neighbours. It is read and not written."""

    model_types: ClassVar[tuple[str, ...]] = ("llama2.c",)

    def read(self, config: Config, names: Collection[str]) -> Reading:
        vocabulary, heads = config.take("vocab_size", int), config.take("n_heads", int)
        groups = config.take("n_kv_heads", int)
        spec = Decoder(
            layers=config.take("n_layers", int),
            width=config.take("dim", int),
            heads=heads,
            kv_heads=0 if groups == heads else groups,
            feedforward=config.take("hidden_dim", int),
            context=config.take("max_seq_len", int),
            positions="rotary",
            norm="rms",
            activation="silu",
            gated=True,
            biases=False,
            tied=vocabulary > 0,
        )
        return Reading(spec, abs(vocabulary))

    def write(self, spec: Architecture, vocabulary: int) -> dict[str, Any]:
        raise UsageError("llama2.c's .bin is read and not written: llama2.c has a program that makes one of hf's")

    def table(self, spec: Architecture) -> list[Row]:
        groups = spec.kv_heads or spec.heads
        rows = [plain("embed.W_E", "tok_embeddings.weight"), plain("final_norm.w", "norm.weight")]
        for n in range(spec.layers):
            ours, theirs = f"layers.{n}", f"layers.{n}"
            rows += [plain(f"{ours}.attn_norm.w", f"{theirs}.attention_norm.weight")]
            rows += [plain(f"{ours}.mlp_norm.w", f"{theirs}.ffn_norm.weight")]
            rows += [_neighbours(f"{ours}.attn.W_Q", f"{theirs}.wq.weight", spec.heads)]
            rows += [_neighbours(f"{ours}.attn.W_K", f"{theirs}.wk.weight", groups)]
            rows += heads_read(f"{ours}.attn", "V", f"{theirs}.wv", groups, False)
            rows += heads_write(f"{ours}.attn", f"{theirs}.wo", spec.heads, False)
            for name, layer in (("gate", "w1"), ("out", "w2"), ("in", "w3")):
                rows += dense(f"{ours}.mlp", name, f"{theirs}.{layer}", False)
        return rows if spec.tied else [*rows, transposed("unembed.W_U", "output.weight")]


def _neighbours(ours: str, theirs: str, heads: int) -> Row:
    """Return the row of a map to queries or keys whose rotary pairs are neighbours, (2i, 2i + 1), where ours are
    (i, i + K/2)."""

    def take(x: Tensor) -> tuple[Tensor, ...]:
        return (x.mT.unflatten(1, (heads, -1, 2)).transpose(-1, -2).flatten(-2),)

    def give(held: tuple[Tensor, ...]) -> Tensor:
        return held[0].unflatten(-1, (2, -1)).transpose(-1, -2).flatten(1).mT

    return Row((ours,), theirs, take, give)


def read_header(path: Path) -> dict[str, int]:
    """Return the seven numbers that a file begins with.

    Raises:
        UsageError: it is of a later version of the format.
        DamagedError: it is no such file.
    """
    with path.open("rb") as file:
        start = file.read(HEADER.size)
    if len(start) < HEADER.size:
        raise DamagedError(f"{str(path)!r} is cut short: llama2.c's files begin with {HEADER.size} bytes of sizes")
    numbers = HEADER.unpack(start)
    if numbers[0] == _LATER_VERSIONS:
        raise UsageError(
            f"{str(path)!r} is of version {numbers[1]} of llama2.c's format: Etude reads the first, which its export.py"
            " writes with --version 0"
        )
    header: dict[str, int] = dict(zip(_FIELDS, numbers, strict=True))
    wrong = [name for name, number in header.items() if number < 1 and name != "vocab_size"]
    if wrong or not header["vocab_size"] or header["dim"] % header["n_heads"]:
        raise DamagedError(f"{str(path)!r} is no file of llama2.c: its header says {header}")
    return header


def layout(header: Mapping[str, int]) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Return where each tensor begins, in bytes, and its shape; and under the name `end`, where the file does."""
    D, F, V, L = header["dim"], header["hidden_dim"], abs(header["vocab_size"]), range(header["n_layers"])
    kv = D // header["n_heads"] * header["n_kv_heads"]
    shapes: dict[str, tuple[int, ...]] = {"tok_embeddings": (V, D)}
    kinds = {"attention_norm": (D,), "wq": (D, D), "wk": (kv, D), "wv": (kv, D), "wo": (D, D)}
    kinds |= {"ffn_norm": (D,), "w1": (F, D), "w2": (D, F), "w3": (F, D)}
    shapes |= {f"layers.{n}.{name}": shape for name, shape in kinds.items() for n in L}
    shapes |= {"norm": (D,), "angles": (header["max_seq_len"], D // header["n_heads"])}
    shapes |= {"output": (V, D)} if header["vocab_size"] < 0 else {}
    at, found = HEADER.size, {}
    for name, shape in shapes.items():
        found[f"{name}.weight"] = (at, shape)
        at += 4 * math.prod(shape)
    del found["angles.weight"]
    return {**found, "end": (at, ())}
