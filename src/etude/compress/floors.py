"""Floors that are drawn: what stands at a token is of another token, or of none."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from etude.compress.codec import Codec, Cost, Text
from etude.core.errors import UsageError

_WORD = 0xFFFFFFFF


def scattered(text: Text, among: int) -> Int[Tensor, "*N"]:
    """Return for each token a number from 0 to under `among` that looks as if it were drawn: a hash of the token, the
    one before it and the position.

    The text is hashed and not the activation, whose last bits depend on the batch and on the machine: the same text
    has the same numbers everywhere.
    """
    found = torch.zeros_like(text.tokens, dtype=torch.int64)
    for part in text:
        found = mixed(found ^ (part.long() & _WORD))
    return found % among


def mixed(word: Int[Tensor, "*N"]) -> Int[Tensor, "*N"]:
    """Return 32 bits each of which depends on all of those that are given; different ones stay different."""
    for _ in range(2):
        word = word ^ (word >> 16)
        word = (word * 0x7FEB352D) & _WORD  # odd, and under 2^31, so that the product is under 2^63
    return word ^ (word >> 15)


def _given(text: tuple[Text, ...], name: str) -> Text:
    if not text:
        raise UsageError(f"{name} draws by the text, and none was given: call it with the activations and their Text")
    return text[0]


class Resampled(Codec):
    """One of E recorded activations in place of each, whatever it is.

    Args:
        examples: [E, D].
    """

    reads_text: ClassVar[bool] = True

    def __init__(self, examples: Float[Tensor, "E D"]) -> None:
        super().__init__()
        self.register_buffer("examples", examples)

    def encode(self, x: Tensor, *text: Text) -> Tensor:
        return scattered(_given(text, "resample"), len(self.get_buffer("examples")))

    def decode(self, code: Tensor) -> Tensor:
        return self.get_buffer("examples")[code]

    def cost(self) -> Cost:
        """Return no bits: what stands there says nothing of what was there."""
        return Cost(None, 0.0, self.get_buffer("examples").numel())


class Noisy(Codec):
    """One of E directions in place of each activation's own about the centre, at the same distance. The code is the
    distance, and the number of the direction.

    Args:
        centre: [D].
        directions: [E, D] of length 1.
    """

    reads_text: ClassVar[bool] = True

    def __init__(self, centre: Float[Tensor, " D"], directions: Float[Tensor, "E D"]) -> None:
        super().__init__()
        self.register_buffer("centre", centre)
        self.register_buffer("directions", directions)

    def encode(self, x: Tensor, *text: Text) -> Tensor:
        distance = (x - self.get_buffer("centre")).norm(dim=-1)
        which = scattered(_given(text, "noise"), len(self.get_buffer("directions")))
        return torch.stack((distance, which.to(distance.dtype)), -1)

    def decode(self, code: Tensor) -> Tensor:
        return self.get_buffer("centre") + code[..., :1] * self.get_buffer("directions")[code[..., 1].long()]

    def cost(self) -> Cost:
        """Return the 32 bits of the distance. The direction is drawn and says nothing, so it costs nothing."""
        centre, directions = self.get_buffer("centre"), self.get_buffer("directions")
        return Cost(None, 32.0, centre.numel() + directions.numel(), flops=5.0 * centre.numel())
