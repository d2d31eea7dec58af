"""Codecs: what a fitted compressor is. Each encodes, decodes, and says what its code costs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn


@dataclass(frozen=True)
class Cost:
    """What a compressor's code takes.

    Attributes:
        dimensions: numbers that pass for each token, where the code is continuous; None where it is discrete.
        bits: bits a token; a continuous number counts as the 32 bits it is held in.
        parameters: numbers that the compressor itself holds.
    """

    dimensions: int | None
    bits: float
    parameters: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Codec(nn.Module, ABC):
    """A function from an activation [..., D] (or a weight) to one like it, through a smaller code."""

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Return the code."""

    @abstractmethod
    def decode(self, code: Tensor) -> Tensor:
        """Return what the code stands for."""

    def forward(self, x: Tensor) -> Tensor:
        """Return what is left of `x` after the code, of the same shape and dtype."""
        return self.decode(self.encode(x.float())).to(x.dtype)

    @abstractmethod
    def cost(self) -> Cost:
        """Return what the code takes."""


class Linear(Codec):
    """Projection on a subspace about a centre: `centre + (x - centre) @ down @ up`.

    Args:
        centre: [D].
        down: [D, R] onto the code.
        up: [R, D] back.
    """

    def __init__(self, centre: Float[Tensor, " D"], down: Float[Tensor, "D R"], up: Float[Tensor, "R D"]) -> None:
        super().__init__()
        self.register_buffer("centre", centre)
        # Laid out as they will be when they are read back: a product may differ in its last bit with the layout.
        self.register_buffer("down", down.contiguous())
        self.register_buffer("up", up.contiguous())

    @staticmethod
    def of(tensors: Mapping[str, Tensor]) -> Linear:
        """Return the projection whose `state_dict` was saved."""
        return Linear(tensors["centre"], tensors["down"], tensors["up"])

    def encode(self, x: Tensor) -> Tensor:
        return (x - self.get_buffer("centre")) @ self.get_buffer("down")

    def decode(self, code: Tensor) -> Tensor:
        return self.get_buffer("centre") + code @ self.get_buffer("up")

    def cost(self) -> Cost:
        rank = self.get_buffer("down").shape[1]
        return Cost(rank, 32.0 * rank, sum(b.numel() for b in self.buffers()))


class Codebook(Codec):
    """The nearest of C centres in place of a vector.

    Args:
        centres: [C, D].
        frequency: [C] how often each is used on the data it was fitted to; sums to 1.
    """

    def __init__(self, centres: Float[Tensor, "C D"], frequency: Float[Tensor, " C"]) -> None:
        super().__init__()
        self.register_buffer("centres", centres)
        self.register_buffer("frequency", frequency)

    def encode(self, x: Float[Tensor, "*N D"]) -> Int[Tensor, "*N"]:
        centres = self.get_buffer("centres")
        # |x - c|² without |x|², which is the same for every centre
        return ((centres**2).sum(1) - 2 * x @ centres.T).argmin(-1)

    def decode(self, code: Tensor) -> Tensor:
        return self.get_buffer("centres")[code]

    def cost(self) -> Cost:
        """Return the entropy of the codes as the bits: what an ideal entropy coder needs, at most log2(C)."""
        p = self.get_buffer("frequency").double()
        entropy = float(-(p * p.clamp_min(1e-300).log2()).sum())
        return Cost(None, max(0.0, entropy), self.get_buffer("centres").numel())


class Factored(Codec):
    """A matrix [M, N] as the product of two thin ones. The code of an input is its product with the first.

    Args:
        left: [M, R].
        right: [R, N].
    """

    def __init__(self, left: Float[Tensor, "M R"], right: Float[Tensor, "R N"]) -> None:
        super().__init__()
        self.register_buffer("left", left)
        self.register_buffer("right", right)

    def encode(self, x: Tensor) -> Tensor:
        return self.get_buffer("left")

    def decode(self, code: Tensor) -> Tensor:
        return code @ self.get_buffer("right")

    def cost(self) -> Cost:
        left, right = self.get_buffer("left"), self.get_buffer("right")
        return Cost(left.shape[1], 32.0 * left.shape[1], left.numel() + right.numel())
