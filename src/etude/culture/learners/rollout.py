"""What was played since the last update, step by step."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Played(NamedTuple):
    """T steps in each of B environments.

    Attributes:
        seen: what the actions were chosen by.
        actions: what was done.
        rewards: what that brought.
        ended: whether the episode was over after it.
    """

    seen: Float[Tensor, "T B D"]
    actions: Int[Tensor, "T B"]
    rewards: Float[Tensor, "T B"]
    ended: Bool[Tensor, "T B"]


class Rollout:
    """Steps in the order in which they were taken."""

    def __init__(self) -> None:
        self.steps: list[tuple[Tensor, ...]] = []

    def __len__(self) -> int:
        return len(self.steps)

    def add(
        self,
        seen: Float[Tensor, "B D"],
        actions: Int[Tensor, " B"],
        rewards: Float[Tensor, " B"],
        ended: Bool[Tensor, " B"],
    ) -> None:
        """Put a step of every environment at the end."""
        self.steps.append((seen, actions, rewards, ended))

    def take(self) -> Played:
        """Return all steps, and forget them."""
        played = self._stacked()
        self.steps = []
        return played

    def _stacked(self) -> Played:
        return Played(*(torch.stack(each) for each in zip(*self.steps, strict=True)))

    def state(self) -> dict[str, Tensor]:
        """Return all steps as tensors, none where there are none."""
        return self._stacked()._asdict() if self.steps else {}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Go back to what `state` gave."""
        self.steps = list(zip(*(tensors[name] for name in Played._fields), strict=True)) if tensors else []
