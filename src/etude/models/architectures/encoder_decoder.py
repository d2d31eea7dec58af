"""The encoder–decoder of 2017: one text in, another out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from etude.core.errors import UsageError
from etude.models import sizes
from etude.models.architectures.base import Architecture

if TYPE_CHECKING:
    from etude.models.encoder_decoder_model import EncoderDecoderModel


@dataclass(frozen=True)
class EncoderDecoder(Architecture):
    """The transformer of Vaswani et al. 2017: an encoder reads the source, and a decoder that sees it through
    cross-attention writes the target. Both share one embedding (section 3.4). The paper's own shape has `norm_at post`,
    `positions sinusoidal`, `activation relu`, `scaled_embeddings` and `tied`.

    Attributes:
        encoder_layers: blocks of the encoder; 0 has as many as the decoder (`layers`).
    """

    encoder_layers: int = 0

    def check(self) -> None:
        super().check()
        if self.parallel:
            raise UsageError(
                "parallel blocks have no place between their parts for cross-attention: set parallel to false"
            )
        if self.encoder_layers < 0:
            raise UsageError(f"encoder_layers = {self.encoder_layers}: give 0 for as many as the decoder, or a number")

    @property
    def encoder_depth(self) -> int:
        """Blocks of the encoder."""
        return self.encoder_layers or self.layers

    def parameters(self, vocabulary: int) -> int:
        stacks = self.encoder_depth * sizes.layer(self) + self.layers * sizes.layer(self, cross=True)
        return sizes.embeddings(self, vocabulary) + stacks + 2 * sizes.final_norm(self)

    def flops_per_token(self, vocabulary: int, context: int | None = None) -> int:
        """Return the FLOPs of one target position's forward pass, with those of one source position: source and target
        are counted as equally long."""
        length = self.context if context is None else context
        self.fits(length)
        encoder = self.encoder_depth * sizes.layer_flops(self, length)
        decoder = self.layers * sizes.layer_flops(self, length, source=length)
        return encoder + decoder + 2 * self.width * vocabulary

    def module(self, vocabulary: int) -> EncoderDecoderModel:
        from etude.models.encoder_decoder_model import EncoderDecoderModel

        return EncoderDecoderModel(self, vocabulary)
