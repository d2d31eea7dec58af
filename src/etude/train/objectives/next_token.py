"""Next-token prediction: the cross-entropy of each token given those before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from etude.text.batches import IGNORE
from etude.train.objectives.base import Objective

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class NextToken(Objective):
    """Cross-entropy of the next token."""

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum")
