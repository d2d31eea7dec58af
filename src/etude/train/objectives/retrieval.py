"""Next-token prediction with neighbours from a library at hand (Borgeaud et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.models.architectures.base import Architecture
from etude.models.architectures.retro import Retro
from etude.text.batches import Examples
from etude.text.data import TextData
from etude.text.neighbours import DocumentWindows, Neighboured, Reads, check_k, found
from etude.text.recipes import NeighboursRecipe, Tokens
from etude.train.objectives.base import Objective


@dataclass(frozen=True)
class Retrieval(Objective):
    """Cross-entropy of the next token, in windows within documents, with the neighbours of their chunks. Without
    neighbours it trains any decoder on the same windows: what a model that retrieves is compared with.

    Attributes:
        neighbours: of the chunks of the text that is trained on; none trains without.
        k: how many of them the model is given.
        reads: what of each: `both` the neighbour and its continuation, or one of the two.
    """

    architectures: ClassVar[tuple[str, ...]] = ("retro", "decoder")

    neighbours: NeighboursRecipe | None = None
    k: int = 2
    reads: Reads = "both"

    def check(self) -> None:
        if self.neighbours is not None:
            check_k(self.k, self.neighbours.most)

    def check_fits(self, data: Tokens, model: Architecture) -> None:
        super().check_fits(data, model)
        if data.openings:
            raise UsageError(f"openings = {data.openings} are no whole documents: set --data.openings 0")
        if self.neighbours is None:
            return
        if self.neighbours.text != data:
            raise UsageError("the neighbours are those of another text than --data: give those of this one")
        if not isinstance(model, Retro):
            raise UsageError(f"a {model.name} reads no neighbours: set --model retro, or leave the neighbours out")
        if model.chunk != self.neighbours.chunk:
            raise UsageError(
                f"the model's chunks have {model.chunk} tokens and the library's {self.neighbours.chunk}: set"
                f" --model.chunk {self.neighbours.chunk}"
            )
        if model.context % model.chunk:
            raise UsageError(
                f"a context of {model.context} is no multiple of chunk = {model.chunk}: set --model.context"
                f" {max(1, round(model.context / model.chunk)) * model.chunk}"
            )

    def flops_per_token(self, model: Architecture, vocabulary: int, context: int) -> int:
        read = model.retrieval_flops(self.k) if isinstance(model, Retro) and self.neighbours is not None else 0
        return model.flops_per_token(vocabulary, context) + read

    @property
    def needs(self) -> tuple[Recipe, ...]:
        if self.neighbours is None:
            return ()
        return tuple(dict.fromkeys([self.neighbours, *self.neighbours.volumes]))

    def examples(self, data: TextData, split: str, context: int) -> Examples:
        store, end = data.store(split), data.tokenizer.end
        if self.neighbours is None:
            return DocumentWindows(store, context, end)
        return Neighboured(store, context, end, *found(self.neighbours, data.beside, split), self.k, self.reads)
