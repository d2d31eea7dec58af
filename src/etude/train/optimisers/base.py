"""What an optimiser is: choices as data that build a PyTorch optimiser over a model's parameters."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from etude.core.family import Member

if TYPE_CHECKING:
    import torch

OUTER = ("W_E", "W_pos", "W_seg", "W_U")
"""Matrices with the width on one side only: embeddings and unembedding. The other `W_*` are the hidden ones."""


@dataclass(frozen=True)
class Optimiser(Member):
    """Base of the family. The learning rate is not here: before every step the schedule's rate, times the group's
    `multiplier` where it has one, is set as the `lr` of each parameter group.

    Attributes:
        whole: whether it needs each matrix whole, so that weights cannot be divided among processes.
    """

    whole: ClassVar[bool] = False

    @abstractmethod
    def build(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        """Return an optimiser over the model's parameters whose state is made of tensors."""


def is_hidden(name: str) -> bool:
    """Return whether a parameter, by its full name, is a matrix between hidden layers."""
    last = name.rpartition(".")[2]
    return last.startswith("W_") and last not in OUTER


def parameter_groups(model: torch.nn.Module, weight_decay: float, *, hidden: bool = True) -> list[dict[str, Any]]:
    """Return a model's parameters in the groups that an optimiser of Adam's kind takes; empty ones are left out.

    Matrices decay; norms and biases do not. In a model in µP the hidden matrices form a group of their own, with the
    `multiplier` of `mup_multiplier`, while vectors, embeddings and unembedding keep the schedule's rate (Yang et al.
    2022, table 8).

    Args:
        model: whose parameters.
        weight_decay: of the matrices.
        hidden: whether the hidden matrices are among them; a member that moves these otherwise leaves them out.
    """
    named = learning(model)
    matrices = {name: p for name, p in named if name.rpartition(".")[2].startswith("W_")}
    inner = {name: p for name, p in matrices.items() if is_hidden(name)}
    others = [p for name, p in named if name not in matrices]
    multiplier = mup_multiplier(model)
    first: list[dict[str, Any]] = []
    if not hidden or multiplier != 1.0:
        matrices = {name: p for name, p in matrices.items() if name not in inner}
    if hidden and multiplier != 1.0:
        first = [{"params": list(inner.values()), "weight_decay": weight_decay, "multiplier": multiplier}]
    rest = [
        {"params": list(matrices.values()), "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return [group for group in (*first, *rest) if group["params"]]


def learning(model: torch.nn.Module) -> list[tuple[str, torch.nn.Parameter]]:
    """Return a model's parameters with their names, without those that are to stay as they are."""
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def mup_multiplier(model: torch.nn.Module) -> float:
    """Return what the rate of hidden matrices is multiplied by: 1 or, under µP with Adam, the base's width over the
    model's. The feed-forward width is taken to grow with the model's."""
    spec = getattr(model, "spec", None)
    base = getattr(spec, "mup_base", 0)
    return base / spec.width if spec is not None and base > 0 else 1.0
