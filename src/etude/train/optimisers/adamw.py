"""AdamW: Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from etude.core.errors import UsageError
from etude.train.optimisers.base import Optimiser, parameter_groups

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class AdamW(Optimiser):
    """Adam with decoupled weight decay; plain Adam where the decay is 0. In a model in µP the rate of hidden matrices
    falls with the width.

    Attributes:
        beta1: decay of the mean of the gradients.
        beta2: decay of the mean of their squares.
        epsilon: added to the root of the latter.
        weight_decay: decay of matrices (`W_*`); norms and biases do not decay.
    """

    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    weight_decay: float = 0.1

    def check(self) -> None:
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1):
            raise UsageError(f"adamw betas {self.beta1}, {self.beta2}: each must be at least 0 and below 1")
        if self.epsilon <= 0 or self.weight_decay < 0:
            raise UsageError(
                f"adamw epsilon {self.epsilon}, weight decay {self.weight_decay}: the first must be over 0, the second"
                " 0 or more"
            )

    def build(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        import torch

        return torch.optim.AdamW(
            parameter_groups(model, self.weight_decay),
            lr=0.0,
            betas=(self.beta1, self.beta2),
            eps=self.epsilon,
            fused=True,
        )
