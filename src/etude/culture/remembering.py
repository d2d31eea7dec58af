"""What an agent's memory does: it reads a stretch of an episode and goes on from what it kept of the stretch before."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from etude.nn.linear import linear, weight
from etude.nn.taps import Tap

Kept = Any
"""What a memory keeps of an episode so far: its own affair. None is the beginning of one."""


class Remembering(nn.Module):
    """A memory, live. Reading an episode whole gives what reading it step by step gives.

    Site: `out` [B T D].
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out = Tap("B T D", D=width)

    @abstractmethod
    def forward(self, x: Float[Tensor, "B T D"], kept: Kept) -> tuple[Float[Tensor, "B T D"], Kept]:
        """Read some steps; return what is made of each, and what is kept after the last.

        Gradients flow through the steps of one call, and not into what was kept.
        """


class Forgetful(Remembering):
    """A hidden layer in place of a memory: nothing is kept."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.axes = {"W_in": "D F", "b_in": "F"}
        self.W_in, self.b_in = weight(width, width), weight(width)

    def forward(self, x: Float[Tensor, "B T D"], kept: Kept) -> tuple[Float[Tensor, "B T D"], Kept]:
        return self.out(torch.relu(linear(x, self.W_in, self.b_in))), None
