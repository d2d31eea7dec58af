"""Sequence to sequence: a text is read, and another is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from etude.core.errors import UsageError
from etude.models.architectures.base import Architecture
from etude.text.batches import Examples
from etude.text.pairs import Pairs, chosen_sides
from etude.text.recipes import Tokens
from etude.train.objectives.base import Objective

if TYPE_CHECKING:
    from etude.text.data import TextData


@dataclass(frozen=True)
class SequenceToSequence(Objective):
    """Cross-entropy of a text's next token, given the text before it and another that is read whole: translation.
    Training smooths the labels, which an evaluation does not. Pairs longer than the context are left out.

    Attributes:
        smoothing: share of each target's chance that is spread over the vocabulary (Vaswani et al. 2017, section 5.4).
        source: the side of the corpus that is read; empty is the first.
        target: the side that is written; empty is the other.
    """

    architectures: ClassVar[tuple[str, ...]] = ("encoder-decoder",)
    per_byte: ClassVar[bool] = False

    smoothing: float = 0.1
    source: str = ""
    target: str = ""

    def check(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise UsageError(f"smoothing = {self.smoothing} is not a share from 0 to below 1; the paper has 0.1")

    def check_fits(self, data: Tokens, model: Architecture) -> None:
        super().check_fits(data, model)
        if len(data.corpus.sides) < 2:
            raise UsageError(
                f"corpus {data.corpus.name} has no pairs of texts: choose one with sides, such as multi30k"
            )
        chosen_sides(data.corpus.sides, self.source, self.target)
        if data.openings:
            raise UsageError(f"openings = {data.openings} would cut sentences short: set --data.openings 0")

    def examples(self, data: TextData, split: str, context: int) -> Examples:
        return Pairs(data.store(split), context, data.tokenizer.end, self.source, self.target)

    @property
    def smoothed(self) -> float:
        return self.smoothing
