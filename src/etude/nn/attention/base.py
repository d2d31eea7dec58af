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
    """What a model tells its attention. The width is a multiple of the heads, and the heads of the groups; the model's
    spec has checked it.

    Attributes:
        width: of the residual stream.
        heads: how many look at once.
        context: the longest text.
        biases: whether each linear map adds a bias.
        dropout: chance that a weight of the pattern is dropped while training.
        rotary_base: turn queries and keys by their position with this base; None leaves them as they are.
        rotary_fraction: how much of each head is turned, from its first coordinate on.
        kv_heads: keys and values for so many groups of heads; 0 gives each head its own.
        scale: what the products of queries and keys are multiplied by; None is 1/√K.
        layer: number of the layer, from 0.
        causal: whether no position may see a later one.
        cross: whether it reads a source in place of its own text.
        source: width of the source's vectors; 0 is that of the stream.
    """

    width: int
    heads: int
    context: int
    biases: bool = True
    dropout: float = 0.0
    rotary_base: float | None = None
    rotary_fraction: float = 1.0
    kv_heads: int = 0
    scale: float | None = None
    layer: int = 0
    causal: bool = True
    cross: bool = False
    source: int = 0

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def groups(self) -> int:
        """Heads that keys and values are made for."""
        return self.kv_heads or self.heads

    @property
    def read_width(self) -> int:
        """Width of what keys and values are made of."""
        return self.source or self.width

    @property
    def rotary_width(self) -> int:
        """Coordinates of a head that are turned: an even number."""
        return int(self.head_width * self.rotary_fraction) // 2 * 2


@dataclass(frozen=True)
class Attention(Member, ABC):
    """How the positions of a text look at each other."""

    @abstractmethod
    def build(self, shape: AttentionShape) -> nn.Module:
        """Return a module from [B T D] and a `View` to [B T D], its weights not yet set. Where the shape is causal, no
        position may see a later one."""

    def parameters(self, shape: AttentionShape) -> int:
        """Return how many numbers `build` will hold, without building it. Members with weights beyond those of
        multi-head attention override it."""
        D, E, H, G, K = shape.width, shape.read_width, shape.heads, shape.groups, shape.head_width
        return 2 * D * H * K + 2 * E * G * K + ((H + 2 * G) * K + D if shape.biases else 0)

    def flops(self, shape: AttentionShape, context: int, source: int = 0) -> int:
        """Return the floating-point operations of its matrix products for one token of a text of `context` tokens,
        forwards, a multiplication and an addition counted as two.

        The whole square of scores is counted, as papers count, also what a mask or a window hides: a kernel may skip
        it. In cross-attention `source` is the source's length, whose keys and values are made once a text and shared
        out over its tokens.
        """
        D, E, H, G, K = shape.width, shape.read_width, shape.heads, shape.groups, shape.head_width
        seen = source if shape.cross else context
        maps = 2 * 2 * D * H * K + 2 * 2 * E * G * K * seen // context
        return maps + 2 * 2 * seen * H * K
