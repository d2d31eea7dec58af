"""A continuous code held in few bits: each number is rounded, so that its precision is what is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from etude.compress.codec import Codec, Cost
from etude.core.errors import UsageError

PRECISIONS = (32, 16, 8, 4, 2)
"""Bits that a number of a code may be held in. 32 is as it comes."""


class Rounded(Codec):
    """Another codec whose code is rounded to 2^bits evenly spaced values in each dimension, zero among them. What lies
    beyond the codes that it was fitted to is held as the last value.

    Args:
        inner: the codec.
        bits: of each number.
        step: [R] distance of the values.
        lowest: [R] number of the lowest value; value n is n · step.
    """

    def __init__(self, inner: Codec, bits: int, step: Float[Tensor, " R"], lowest: Float[Tensor, " R"]) -> None:
        super().__init__()
        if bits not in PRECISIONS:
            raise UsageError(f"precision = {bits} bits: choose one of {', '.join(map(str, PRECISIONS))}")
        self.inner, self.bits = inner, bits
        self.register_buffer("step", step)
        self.register_buffer("lowest", lowest)

    @staticmethod
    def fitted(inner: Codec, codes: Float[Tensor, "N R"], bits: int) -> Rounded:
        """Return a codec rounded so that the codes of the data that it was fitted to are all within reach."""
        low, high = codes.amin(0).clamp_max(0), codes.amax(0).clamp_min(0)
        step = ((high - low) / (2**bits - 1)).clamp_min(torch.finfo(torch.float32).tiny)
        return Rounded(inner, bits, step, (low / step).round())

    @staticmethod
    def of(inner: Codec, tensors: Mapping[str, Tensor], bits: int) -> Rounded:
        """Return the codec whose `state_dict` was saved; `inner` is made of the tensors named `inner.*`."""
        return Rounded(inner, bits, tensors["step"], tensors["lowest"])

    def encode(self, x: Tensor) -> Tensor:
        step, lowest = self.get_buffer("step"), self.get_buffer("lowest")
        number = (self.inner.encode(x) / step).round().clamp(min=lowest, max=lowest + 2**self.bits - 1)
        return number * step

    def decode(self, code: Tensor) -> Tensor:
        return self.inner.decode(code)

    def cost(self) -> Cost:
        inner = self.inner.cost()
        if inner.bits is None or inner.dimensions is None:
            return inner
        spared = inner.dimensions * (32 - self.bits)  # of a sparse code the bits that name its latents stay
        return replace(inner, bits=inner.bits - spared)
