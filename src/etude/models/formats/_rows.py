"""The rows that tables are made of. What PyTorch calls a linear layer stores its map transposed, [out, in]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etude.models.formats.base import Row

if TYPE_CHECKING:
    from torch import Tensor


def plain(ours: str, theirs: str) -> Row:
    """Return the row of a tensor that both write in the same way."""
    return Row((ours,), theirs, lambda x: (x,), lambda held: held[0])


def transposed(ours: str, theirs: str) -> Row:
    """Return the row of a map that is stored transposed."""
    return Row((ours,), theirs, lambda x: (x.mT,), lambda held: held[0].mT)


def norm(ours: str, theirs: str, biases: bool = True) -> list[Row]:
    """Return the rows of a norm."""
    pairs = {"w": "weight", "b": "bias"} if biases else {"w": "weight"}
    return [plain(f"{ours}.{one}", f"{theirs}.{other}") for one, other in pairs.items()]


def dense(ours: str, name: str, theirs: str, biases: bool = True) -> list[Row]:
    """Return the rows of a linear layer: `ours.W_name` and `ours.b_name`, or without a dot where `ours` is empty."""
    at = f"{ours}." if ours else ""
    rows = [transposed(f"{at}W_{name}", f"{theirs}.weight")]
    return [*rows, plain(f"{at}b_{name}", f"{theirs}.bias")] if biases else rows


def heads_read(ours: str, name: str, theirs: str, heads: int, biases: bool = True) -> list[Row]:
    """Return the rows of a linear layer to all heads' queries, keys or values: [H·K, D] there, [D, H, K] here."""

    def take(x: Tensor) -> tuple[Tensor, ...]:
        return (x.mT.unflatten(1, (heads, -1)),)

    rows = [Row((f"{ours}.W_{name}",), f"{theirs}.weight", take, lambda held: held[0].flatten(1).mT)]
    return [*rows, head_bias(f"{ours}.b_{name}", f"{theirs}.bias", heads)] if biases else rows


def head_bias(ours: str, theirs: str, heads: int) -> Row:
    """Return the row of a bias of all heads: [H·K] there, [H, K] here."""
    return Row((ours,), theirs, lambda x: (x.unflatten(0, (heads, -1)),), lambda held: held[0].flatten())


def heads_write(ours: str, theirs: str, heads: int, biases: bool = True) -> list[Row]:
    """Return the rows of a linear layer from all heads back to the stream: [D, H·K] there, [H, K, D] here."""

    def take(x: Tensor) -> tuple[Tensor, ...]:
        return (x.mT.unflatten(0, (heads, -1)),)

    rows = [Row((f"{ours}.W_O",), f"{theirs}.weight", take, lambda held: held[0].flatten(0, 1).mT)]
    return [*rows, plain(f"{ours}.b_O", f"{theirs}.bias")] if biases else rows
