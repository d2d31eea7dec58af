"""Hidden states of a model that was trained here, averaged over a chunk."""

from __future__ import annotations

from dataclasses import dataclass

from etude.core.errors import UsageError
from etude.models.recipes import ModelRecipe
from etude.retrieval.embedders.base import Embedder, Given, LiveEmbedder, State
from etude.retrieval.same_tokens import may_share
from etude.text.recipes import Tokens


@dataclass(frozen=True)
class Hidden(Embedder):
    """The residual stream of a model, averaged over a chunk's tokens: what BERT is in RETRO (Borgeaud et al. 2021,
    section 2.3), with a model of one's own that reads the library's very tokens.

    A chunk is read by itself, without what comes before it. The model runs on the CPU. An encoder-decoder is not
    covered.

    Attributes:
        of: the model, a decoder or an encoder.
        layer: the stream after this layer, from 0; -1 is the last.
    """

    of: ModelRecipe
    layer: int = -1

    def check(self) -> None:
        if self.layer < -1:
            raise UsageError(f"hidden.layer = {self.layer}: give -1 for the last layer, or a layer from 0")

    def check_fits(self, data: Tokens, chunk: int) -> None:
        if not may_share(data, self.of.text):
            raise UsageError(
                "the embedder's model reads other tokens than the library's: give --data its tokenizer and, where that"
                " was trained, --data.like its tokens"
            )
        if self.of.shape is not None and chunk > self.of.shape.context:
            raise UsageError(
                f"chunk = {chunk} is longer than the {self.of.shape.context} positions that the embedder's model reads:"
                f" set --chunk {self.of.shape.context} or less, or embed with another model"
            )

    def live(self, state: State, given: Given) -> LiveEmbedder:
        from etude.retrieval.embedders._averaged import hidden_states

        return hidden_states(given.done[self.of], self.layer, given)

    def expected_dimension(self) -> int:
        return 0 if self.of.shape is None else self.of.shape.width
