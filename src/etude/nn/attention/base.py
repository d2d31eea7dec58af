"""What a member of the family `nn/attention` is: plain data that can count itself and build itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etude.core.family import Member

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class AttentionShape:
    """What a model tells its attention. The width is a multiple of the heads; the model's spec has checked it.

    Attributes:
        width: of the residual stream.
        heads: how many look at once.
        context: the longest text.
        biases: whether each linear map adds a bias.
        dropout: chance that a weight of the pattern is dropped while training.
        rotary_base: turn queries and keys by their position with this base; None leaves them as they are.
    """

    width: int
    heads: int
    context: int
    biases: bool = True
    dropout: float = 0.0
    rotary_base: float | None = None

    @property
    def head_width(self) -> int:
        return self.width // self.heads


@dataclass(frozen=True)
class Attention(Member, ABC):
    """How the positions of a text look at each other."""

    @abstractmethod
    def build(self, shape: AttentionShape) -> nn.Module:
        """Return a module from [B T D] to [B T D], its weights not yet set. No position may see a later one."""

    @abstractmethod
    def parameters(self, shape: AttentionShape) -> int:
        """Return how many numbers `build` will hold, without building it."""

    @abstractmethod
    def flops(self, shape: AttentionShape, context: int) -> int:
        """Return the floating-point operations of its matrix products for one token of a text of `context` tokens,
        forwards, a multiplication and an addition counted as two."""
