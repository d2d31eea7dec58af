"""The encoder: every position sees the whole text, to fill in masked tokens or to say which class a text is of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from etude.core.errors import UsageError
from etude.models import sizes
from etude.models.architectures.base import Architecture

if TYPE_CHECKING:
    from etude.models.encoder_model import EncoderModel


@dataclass(frozen=True)
class Encoder(Architecture):
    """An encoder-only transformer (BERT, Devlin et al. 2019): a masked language model, or a classifier of texts. BERT's
    own shape has `norm_at post`, `segments 2`, `norm_embeddings`, `head bert`, `pooling first` and `tied`.

    Attributes:
        classes: 0 predicts tokens; N says which of N classes the text is of.
        pooling: what a classifier reads: the mean of the last vectors of all tokens, or the first token's.
        head: `linear` reads out the last vectors as they are; `bert` sends them through one more map first (with
            activation and norm for tokens, with tanh for classes), and adds a bias to the scores.
        segments: how many parts of a text have a vector of their own, 2 in BERT; 0 none.
        norm_embeddings: whether the sum of the embeddings passes a norm, as in BERT.
        next_sentence: whether a second head says if the second segment followed the first.
    """

    classes: int = 0
    pooling: Literal["mean", "first"] = "mean"
    head: Literal["linear", "bert"] = "linear"
    segments: int = 0
    norm_embeddings: bool = False
    next_sentence: bool = False

    def check(self) -> None:
        super().check()
        if self.classes < 0 or self.classes == 1 or self.segments < 0:
            raise UsageError(
                f"classes = {self.classes}, segments = {self.segments}: give 0 or at least 2 classes, and 0 or more"
                " segments"
            )
        if self.classes and self.tied:
            raise UsageError("a classifier has no unembedding to tie: set tied to false, or classes to 0")
        if self.next_sentence and (self.segments < 2 or self.classes):
            raise UsageError(
                "next_sentence needs two segments and no classes: set segments to 2 and classes to 0, or leave it out"
            )
        if self.norm_embeddings and self.norm == "none":
            raise UsageError("norm_embeddings says nothing where norm = 'none': choose a norm, or leave it out")

    def parameters(self, vocabulary: int) -> int:
        held = self.layers * sizes.layer(self) + sizes.final_norm(self) + sizes.token_embeddings(self, vocabulary)
        held += self.segments * self.width + (sizes.norm(self) if self.norm_embeddings else 0)
        return held + self._head_parameters(vocabulary)

    def _head_parameters(self, vocabulary: int) -> int:
        scores = self.classes or vocabulary
        extra = self.head == "bert"
        dense = self.width * self.width + self.width
        held = 0 if self.tied else self.width * scores
        held += scores if extra else 0
        held += dense + (0 if self.classes else sizes.norm(self)) if extra else 0
        return held + (dense + 2 * self.width + 2 if self.next_sentence else 0)

    def flops_per_token(self, vocabulary: int, context: int | None = None) -> int:
        length = self.context if context is None else context
        self.fits(length)
        flops = self.layers * sizes.layer_flops(self, length)
        if self.classes:
            return flops  # what reads one vector a text is left out: it is none of a position's
        return flops + 2 * self.width * vocabulary + (2 * self.width**2 if self.head == "bert" else 0)

    def module(self, vocabulary: int) -> EncoderModel:
        from etude.models.encoder_model import EncoderModel

        return EncoderModel(self, vocabulary)
