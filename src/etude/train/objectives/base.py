"""What an objective is: how a loss comes from a model's logits and the targets."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etude.core.family import Member

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Objective(Member):
    """Base of the family."""

    @abstractmethod
    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the summed loss in nats over the positions that have a target.

        Args:
            logits: [B, T, V].
            targets: [B, T] token ids, IGNORE where there is nothing to predict.
        """
