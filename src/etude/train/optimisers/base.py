"""What an optimiser is: choices as data that build a PyTorch optimiser over a model's parameters."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etude.core.family import Member

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Optimiser(Member):
    """Base of the family. The learning rate is not here: the schedule sets it before every step."""

    @abstractmethod
    def build(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        """Return an optimiser over the model's parameters whose state is made of tensors."""
