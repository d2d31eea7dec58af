"""What an objective is: what one sample is, and how a loss comes from a model's scores and the targets."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from etude.core.errors import UsageError
from etude.core.family import Member
from etude.core.recipe import Recipe
from etude.models.architectures.base import Architecture
from etude.text.batches import Examples
from etude.text.recipes import Tokens

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from etude.models.transformer import Transformer
    from etude.text.data import TextData


class Summed(NamedTuple):
    """Sums over the targets of some samples.

    Attributes:
        loss: in nats, a tensor with a gradient.
        right: how many targets had the highest score, or None where that was not asked.
        beside: other sums for the record, by name, where a loss has parts; each is divided as the loss is.
    """

    loss: Tensor
    right: Tensor | None
    beside: Mapping[str, Tensor] | None = None


@dataclass(frozen=True)
class Objective(Member):
    """Base of the family.

    Attributes:
        architectures: names of the architectures that it can train.
        per_byte: whether its loss is that of a text, token by token, so that a loss a byte says something.
    """

    architectures: ClassVar[tuple[str, ...]] = ("decoder",)
    per_byte: ClassVar[bool] = True

    @property
    def needs(self) -> tuple[Recipe, ...]:
        """Recipes whose runs its samples are made of, beside the tokens."""
        return ()

    @abstractmethod
    def examples(self, data: TextData, split: str, context: int) -> Examples:
        """Return the samples of a split.

        Args:
            data: the tokens, with the runs of `needs` beside them.
            split: `train`, `valid` or `test`.
            context: length of a sample's inputs.

        Raises:
            UsageError: the data are not of the kind that it needs, or too few.
        """

    def summed(
        self,
        model: Transformer,
        inputs: Tensor,
        targets: Tensor,
        given: Mapping[str, Tensor],
        *,
        chunked: bool = False,
        count_right: bool = False,
    ) -> Summed:
        """Return the summed loss in nats over what has a target.

        Args:
            model: what is trained.
            inputs: [B, T] tokens.
            targets: [B, T] token ids with IGNORE where there is nothing to predict, or [B] classes.
            given: what else the model is called with.
            chunked: never hold the scores of all positions at once, see `etude.nn.cross_entropy`.
            count_right: whether to count the targets with the highest score, which takes a fifth of a small model's
                step.
        """
        from etude.train.losses import summed

        return summed(model, inputs, targets, given, self.smoothed, chunked=chunked, count_right=count_right)

    def beside(self, model: Transformer, examples: Examples, windows: np.ndarray, precision: str) -> dict[str, Any]:
        """Return what an evaluation says of a model beside its loss and accuracy at the targets.

        Args:
            model: what is evaluated.
            examples: the split.
            windows: which of its samples.
            precision: as the training had it.
        """
        return {}

    def flops_per_token(self, model: Architecture, vocabulary: int, context: int) -> int:
        """Return the FLOPs of one position's forward pass in a text of `context` tokens, as its samples are given."""
        return model.flops_per_token(vocabulary, context)

    @property
    def smoothed(self) -> float:
        """The share of each target's chance that training spreads over all others."""
        return 0.0

    def check_fits(self, data: Tokens, model: Architecture) -> None:
        """Raise UsageError where the model, or the data as far as they are known, are not of its kind."""
        if model.name not in self.architectures:
            kinds = ", ".join(self.architectures)
            raise UsageError(
                f"objective {self.name} trains {kinds}, not {model.name}: set --model {kinds.split(',')[0]}"
            )
