"""A memory of the last steps, from which any may be drawn (Lin 1992; Mnih et al. 2015)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Remembered(NamedTuple):
    """N steps, in no order.

    Attributes:
        seen: what the action was chosen by.
        actions: what was done.
        rewards: what that brought.
        terminated: whether nothing came after it. An episode that was cut off has an after.
        after: what was seen then.
    """

    seen: Float[Tensor, "N D"]
    actions: Int[Tensor, " N"]
    rewards: Float[Tensor, " N"]
    terminated: Bool[Tensor, " N"]
    after: Float[Tensor, "N D"]


class Replay:
    """The last steps. The oldest makes room for the newest.

    Args:
        size: how many.
        width: D, numbers in an observation.
    """

    def __init__(self, size: int, width: int) -> None:
        self.held = Remembered(
            torch.zeros(size, width),
            torch.zeros(size, dtype=torch.int64),
            torch.zeros(size),
            torch.zeros(size, dtype=torch.bool),
            torch.zeros(size, width),
        )
        self.count = 0

    def __len__(self) -> int:
        return min(self.count, len(self.held.actions))

    def add(self, steps: Remembered) -> None:
        """Remember steps, one after the other."""
        places = torch.arange(self.count, self.count + len(steps.actions)) % len(self.held.actions)
        for held, new in zip(self.held, steps, strict=True):
            held[places] = new
        self.count += len(steps.actions)

    def draw(self, count: int, draw: torch.Generator) -> Remembered:
        """Return steps drawn evenly, each as often as chance has it."""
        rows = torch.randint(len(self), (count,), generator=draw)
        return Remembered(*(held[rows] for held in self.held))

    def state(self) -> dict[str, Tensor]:
        """Return the memory as far as it is filled."""
        return {
            **{name: held[: len(self)] for name, held in self.held._asdict().items()},
            "count": torch.tensor(self.count),
        }

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Go back to what `state` gave."""
        self.count = int(tensors["count"])
        for name, held in self.held._asdict().items():
            held[: len(self)] = tensors[name]
