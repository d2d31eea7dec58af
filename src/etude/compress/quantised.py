"""Codecs of activations whose code is discrete: several codebooks, or each dimension on evenly spaced values."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor

from etude.compress.codec import Codec, Cost, entropy, nearest
from etude.compress.uniform import number_of, value_of


class Product(Codec):
    """For each of P stretches of the dimensions, the nearest of its own C centres. Stretches differ by one in length
    where D cannot be divided evenly.

    Args:
        centres: [C, D], of every stretch beside each other.
        frequency: [P, C] how often each is used on the data it was fitted to; rows sum to 1.
    """

    def __init__(self, centres: Float[Tensor, "C D"], frequency: Float[Tensor, "P C"]) -> None:
        super().__init__()
        self.register_buffer("centres", centres)
        self.register_buffer("frequency", frequency)

    def encode(self, x: Float[Tensor, "*N D"]) -> Int[Tensor, "*N P"]:
        parts = len(self.get_buffer("frequency"))
        centres = self.get_buffer("centres").tensor_split(parts, -1)
        return torch.stack([nearest(*both) for both in zip(x.tensor_split(parts, -1), centres, strict=True)], -1)

    def decode(self, code: Tensor) -> Tensor:
        centres = self.get_buffer("centres").tensor_split(code.shape[-1], -1)
        return torch.cat([of[number] for of, number in zip(centres, code.unbind(-1), strict=True)], -1)

    def cost(self) -> Cost:
        """Return as the bits the sum of the entropies of the parts, each coded by itself."""
        held = self.get_buffer("centres").numel()
        return Cost(None, float(entropy(self.get_buffer("frequency")).sum()), held, flops=2.0 * held)


class Residual(Codec):
    """The sum of S centres: the nearest of the first codebook, of the second the nearest to what the first has left,
    and so on.

    Args:
        centres: [S, C, D].
        frequency: [S, C] how often each is used on the data it was fitted to; rows sum to 1.
    """

    def __init__(self, centres: Float[Tensor, "S C D"], frequency: Float[Tensor, "S C"]) -> None:
        super().__init__()
        self.register_buffer("centres", centres)
        self.register_buffer("frequency", frequency)

    def encode(self, x: Float[Tensor, "*N D"]) -> Int[Tensor, "*N S"]:
        code = []
        for centres in self.get_buffer("centres"):
            code.append(nearest(x, centres))
            x = x - centres[code[-1]]
        return torch.stack(code, -1)

    def decode(self, code: Tensor) -> Tensor:
        stages = zip(self.get_buffer("centres"), code.unbind(-1), strict=True)
        return torch.stack([centres[number] for centres, number in stages]).sum(0)

    def cost(self) -> Cost:
        """Return as the bits the sum of the entropies of the stages, each coded by itself."""
        held = self.get_buffer("centres").numel()
        return Cost(None, float(entropy(self.get_buffer("frequency")).sum()), held, flops=2.0 * held)


class Uniform(Codec):
    """Each dimension as the nearest of 2^bits evenly spaced values about a centre.

    Args:
        centre: [D].
        step: [D] distance of the values.
        entropy: [D] bits that each dimension needs on the data it was fitted to.
        bits: 1 to 8.
    """

    def __init__(
        self, centre: Float[Tensor, " D"], step: Float[Tensor, " D"], entropy: Float[Tensor, " D"], bits: int
    ) -> None:
        super().__init__()
        self.bits = bits
        self.register_buffer("centre", centre)
        self.register_buffer("step", step)
        self.register_buffer("entropy", entropy)

    def encode(self, x: Float[Tensor, "*N D"]) -> Int8[Tensor, "*N D"]:
        return number_of(x - self.get_buffer("centre"), self.get_buffer("step"), self.bits)

    def decode(self, code: Tensor) -> Tensor:
        return self.get_buffer("centre") + value_of(code, self.get_buffer("step"))

    def cost(self) -> Cost:
        """Return as the bits the sum of the entropies of the dimensions, each coded by itself."""
        centre = self.get_buffer("centre")
        bits = float(self.get_buffer("entropy").double().sum())
        return Cost(None, bits, 2 * centre.numel(), flops=6.0 * centre.numel())
