"""The live encoder–decoder: a source is read once, a target is written with it in view."""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from etude.core.errors import UsageError
from etude.models.architectures.encoder_decoder import EncoderDecoder
from etude.models.cache import Cache
from etude.models.transformer import Transformer, blocks, embedding, final_norm
from etude.nn.embedding import Unembedding
from etude.nn.taps import Tap
from etude.nn.view import View, not_padding


class Stack(nn.Module):
    """The encoder's blocks and their last norm."""

    def __init__(self, spec: EncoderDecoder) -> None:
        super().__init__()
        self.layers = blocks(spec, spec.encoder_depth, causal=False)
        self.final_norm = final_norm(spec)


class EncoderDecoderModel(Transformer[EncoderDecoder]):
    """The transformer of 2017, from a source and the target so far to the scores of the target's next token."""

    def __init__(self, spec: EncoderDecoder, vocabulary: int) -> None:
        super().__init__(spec, vocabulary)
        self.embed = embedding(spec, vocabulary)
        self.encoder = Stack(spec)
        self.layers = blocks(spec, spec.layers, cross=True)
        self.final_norm = final_norm(spec)
        self.unembed = None if spec.tied else Unembedding(spec.width, vocabulary)
        self.memory = Tap("B S D", D=spec.width)
        self.logits = Tap("B T V", V=vocabulary)

    def encode(
        self, source: Int[Tensor, "B S"], source_present: Bool[Tensor, "B S"] | None = None
    ) -> Float[Tensor, "B S D"]:
        """Return what the encoder makes of a source.

        Args:
            source: the texts to be read.
            source_present: false where there is padding.
        """
        self.check_tokens(source)
        visible = None if source_present is None else not_padding(source_present)
        x = self.through(self.encoder.layers, self.embed(source), View(visible=visible))
        return self.memory(self.encoder.final_norm(x))

    def hidden(
        self,
        tokens: Int[Tensor, "B T"],
        *,
        source: Int[Tensor, "B S"] | None = None,
        source_present: Bool[Tensor, "B S"] | None = None,
        memory: Float[Tensor, "B S D"] | None = None,
        past: Cache | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Return the vectors that the unembedding reads, at each position of the target.

        Args:
            tokens: the target so far; no position sees a later one, so padding belongs on its right.
            source: the texts to be read, unless `memory` says what the encoder made of them.
            source_present: false where the source has padding.
            memory: from `encode`.
            past: keys and values of earlier calls; once it holds the source's, neither source nor memory is needed.
        """
        before = past.length if past is not None else 0
        self.check_tokens(tokens, before)
        if memory is None and source is not None:
            memory = self.encode(source, source_present)
        if memory is None and not before:
            raise UsageError("an encoder-decoder needs the text that it reads: call it with source= or memory=")
        view = View(
            positions=None if past is None else past.positions(tokens),
            source=memory,
            source_visible=None if source_present is None else not_padding(source_present),
            past=past,
        )
        x = self.final_norm(self.through(self.layers, self.embed(tokens, view.positions), view))
        if past is not None:
            past.length = before + tokens.shape[1]
        return x * self.spec.logit_scale if self.spec.mup_base else x

    def unembedding(self) -> tuple[Float[Tensor, "D V"], Float[Tensor, " V"] | None]:
        """Return W_U, or the transposed embedding where it is tied; there is no bias."""
        return (self.embed.W_E.mT, None) if self.unembed is None else (self.unembed.W_U, self.unembed.b_U)
