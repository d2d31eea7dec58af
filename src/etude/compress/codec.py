"""Codecs: what a fitted compressor is. Each encodes, decodes, and says what its code costs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn


class Text(NamedTuple):
    """The tokens that activations are of, for a codec that reads them too, with the leading axes of the activations.

    Attributes:
        tokens: [*N] the token at the position.
        before: [*N] the token before it, -1 where there is none.
        position: [*N] where it stands in its window, from 0.
    """

    tokens: Int[Tensor, "*N"]
    before: Int[Tensor, "*N"]
    position: Int[Tensor, "*N"]

    @staticmethod
    def of(tokens: Int[Tensor, "B T"], start: int = 0) -> Text:
        """Return what is known of windows of text, the first token of which is at `start`."""
        before = torch.cat((torch.full_like(tokens[:, :1], -1), tokens[:, :-1]), 1)
        return Text(
            tokens, before, torch.arange(start, start + tokens.shape[1], device=tokens.device).expand_as(tokens)
        )


@dataclass(frozen=True)
class Cost:
    """What a compressor's code takes.

    Attributes:
        dimensions: numbers that pass for each token, where the code is continuous (of a sparse code, those that are not
            zero, on average); None where it is discrete, or where nothing is coded.
        bits: bits a token: for a discrete code its measured entropy, for a continuous one the precision that it is held
            in, 32 a number unless it is rounded; None where what passes is as it was (a weight that is only stored in
            fewer bits).
        parameters: numbers that the compressor itself holds.
        flops: a token to encode and decode, an addition and a multiplication as two.
        storage: bits that hold the parameters; None is 32 for each.
    """

    dimensions: int | float | None
    bits: float | None
    parameters: int
    flops: float = 0.0
    storage: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "storage": 32.0 * self.parameters if self.storage is None else self.storage}


class Codec(nn.Module, ABC):
    """A function from an activation [..., D] (or a weight, or what a component reads) to what stands in its place,
    through a smaller code.

    Attributes:
        reads_text: whether `encode` and `forward` are also given the `Text`.
    """

    reads_text: ClassVar[bool] = False

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Return the code."""

    @abstractmethod
    def decode(self, code: Tensor) -> Tensor:
        """Return what the code stands for."""

    def forward(self, x: Tensor, *text: Text) -> Tensor:
        """Return what stands in the place of `x` after the code, in its dtype."""
        return self.decode(self.encode(x.float(), *text)).to(x.dtype)

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
        held = sum(b.numel() for b in self.buffers())
        return Cost(rank, 32.0 * rank, held, flops=2.0 * held)


class Affine(Codec):
    """An affine map of low rank, for a component: `offset + (x - centre) @ down @ up`.

    Args:
        centre: [M] of what is read.
        offset: [D] of what is written.
        down: [M, R] onto the code.
        up: [R, D] to the output.
    """

    def __init__(
        self,
        centre: Float[Tensor, " M"],
        offset: Float[Tensor, " D"],
        down: Float[Tensor, "M R"],
        up: Float[Tensor, "R D"],
    ) -> None:
        super().__init__()
        self.register_buffer("centre", centre)
        self.register_buffer("offset", offset)
        self.register_buffer("down", down.contiguous())
        self.register_buffer("up", up.contiguous())

    @staticmethod
    def of(tensors: Mapping[str, Tensor]) -> Affine:
        """Return the map whose `state_dict` was saved."""
        return Affine(tensors["centre"], tensors["offset"], tensors["down"], tensors["up"])

    def encode(self, x: Tensor) -> Tensor:
        return (x - self.get_buffer("centre")) @ self.get_buffer("down")

    def decode(self, code: Tensor) -> Tensor:
        return self.get_buffer("offset") + code @ self.get_buffer("up")

    def cost(self) -> Cost:
        rank = self.get_buffer("down").shape[1]
        held = sum(b.numel() for b in self.buffers())
        return Cost(rank, 32.0 * rank, held, flops=2.0 * held)


def nearest(x: Float[Tensor, "*N D"], centres: Float[Tensor, "C D"]) -> Int[Tensor, "*N"]:
    """Return the number of the centre that is nearest to each vector; of several as near, mostly the first."""
    # |x - c|² without |x|², which is the same for every centre. About the centres' mean, since far from zero what
    # tells centres apart would be lost in rounding.
    middle = centres.mean(0)
    away = centres - middle
    return ((away**2).sum(1) - 2 * (x - middle) @ away.T).argmin(-1)


def entropy(frequency: Float[Tensor, "*N C"]) -> Float64[Tensor, "*N"]:
    """Return the entropy in bits of distributions over C: what an ideal entropy coder needs for one draw."""
    return torch.special.entr(frequency.double()).sum(-1).clamp_min(0) / math.log(2)


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
        return nearest(x, self.get_buffer("centres"))

    def decode(self, code: Tensor) -> Tensor:
        return self.get_buffer("centres")[code]

    def cost(self) -> Cost:
        """Return the entropy of the codes as the bits: what an ideal entropy coder needs, at most log2(C)."""
        held = self.get_buffer("centres").numel()
        return Cost(None, float(entropy(self.get_buffer("frequency"))), held, flops=2.0 * held)


class Factored(Codec):
    """A matrix [M, N] as the product of two thin ones. The code of an input is its product with the first.

    Args:
        left: [M, R].
        right: [R, N].
    """

    def __init__(self, left: Float[Tensor, "M R"], right: Float[Tensor, "R N"]) -> None:
        super().__init__()
        self.register_buffer("left", left.contiguous())
        self.register_buffer("right", right.contiguous())

    def encode(self, x: Tensor) -> Tensor:
        return self.get_buffer("left")

    def decode(self, code: Tensor) -> Tensor:
        return code @ self.get_buffer("right")

    def cost(self) -> Cost:
        left, right = self.get_buffer("left"), self.get_buffer("right")
        held = left.numel() + right.numel()
        return Cost(left.shape[1], 32.0 * left.shape[1], held, flops=2.0 * held)
