"""The decoder: a text in, and at each position the next token out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from etude.core.errors import UsageError
from etude.models import sizes
from etude.models.architectures.base import Architecture

if TYPE_CHECKING:
    from etude.models.decoder_model import DecoderModel


@dataclass(frozen=True)
class Decoder(Architecture):
    """A decoder-only transformer: it reads a text and predicts, at each position, the next token. With its options it
    is GPT, GPT-2 or GPT-3 (`attention banded`), an attention-only model, GPT-NeoX, or Llama.

    Attributes:
        unembed_bias: whether the unembedding adds a bias to the scores. A model whose last norm was folded into its
            unembedding has one (`etude.interp.plain`).
    """

    unembed_bias: bool = False

    def check(self) -> None:
        super().check()
        if self.unembed_bias and self.tied:
            raise UsageError(
                "unembed_bias needs an unembedding that is its own, and tied makes it the embedding: set one to false"
            )

    def parameters(self, vocabulary: int) -> int:
        held = sizes.embeddings(self, vocabulary) + self.layers * sizes.layer(self) + sizes.final_norm(self)
        return held + (vocabulary if self.unembed_bias else 0)

    def flops_per_token(self, vocabulary: int, context: int | None = None) -> int:
        length = self.context if context is None else context
        self.fits(length)
        return self.layers * sizes.layer_flops(self, length) + 2 * self.width * vocabulary

    def module(self, vocabulary: int) -> DecoderModel:
        from etude.models.decoder_model import DecoderModel

        return DecoderModel(self, vocabulary)
