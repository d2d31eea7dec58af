"""Next-token prediction: the cross-entropy of each token given those before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from etude.core.errors import UsageError
from etude.models.architectures.base import Architecture
from etude.text.batches import Examples, Windows
from etude.text.recipes import Tokens
from etude.train.objectives.base import Objective

if TYPE_CHECKING:
    from etude.text.data import TextData


@dataclass(frozen=True)
class NextToken(Objective):
    """Cross-entropy of the next token.

    Attributes:
        apart: whether the documents of a window are kept apart, so that no token sees another document. Off, a window
            is read as one text, which is faster and is what GPT-2 and GPT-3 did.
        restart: whether positions count from 0 in each document that is kept apart, as where packing is to change
            nothing at all (Krell et al. 2021, section 3.2). Rotary positions see distances alone and need it not.
    """

    apart: bool = False
    restart: bool = False

    def check(self) -> None:
        if self.restart and not self.apart:
            raise UsageError(
                "restart says nothing where documents are not kept apart: set --objective.apart, or leave it"
            )

    def check_fits(self, data: Tokens, model: Architecture) -> None:
        super().check_fits(data, model)
        if self.apart and data.openings:
            raise UsageError(
                "each sample is one document's opening, so there is nothing to keep apart: leave apart off"
            )

    def examples(self, data: TextData, split: str, context: int) -> Examples:
        if not self.apart:
            return data.examples(split, context)
        return Windows(data.store(split), context, data.tokenizer.end, apart=True, restarted=self.restart)
