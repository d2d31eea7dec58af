"""The live decoder: the parts of `etude.nn`, put together as its spec says."""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from etude.core.errors import UsageError
from etude.models.architectures.decoder import Decoder
from etude.models.cache import Cache
from etude.models.transformer import Transformer, blocks, embedding, final_norm
from etude.nn.embedding import Unembedding
from etude.nn.taps import Tap
from etude.nn.view import PLAIN, View, not_padding, same_document


class DecoderModel(Transformer[Decoder]):
    """A decoder-only transformer from tokens to logits."""

    def __init__(self, spec: Decoder, vocabulary: int) -> None:
        super().__init__(spec, vocabulary)
        self.embed = embedding(spec, vocabulary)
        self.layers = blocks(spec, spec.layers)
        self.final_norm = final_norm(spec)
        self.unembed = None if spec.tied else Unembedding(spec.width, vocabulary, spec.unembed_bias)
        self.logits = Tap("B T V", V=vocabulary)

    def hidden(
        self,
        tokens: Int[Tensor, "B T"],
        *,
        documents: Int[Tensor, "B T"] | None = None,
        present: Bool[Tensor, "B S"] | None = None,
        positions: Int[Tensor, "B T"] | None = None,
        past: Cache | None = None,
        stream: Float[Tensor, "B T D"] | None = None,
        layer: int = 0,
    ) -> Float[Tensor, "B T D"]:
        """Return the vectors that the unembedding reads.

        Args:
            tokens: the texts.
            documents: which document each token belongs to, for texts packed into one window; none then sees another.
                Not together with a past.
            present: false where there is padding, for all positions that can be seen (those of the past too).
            positions: where each token stands in its text; None counts from 0, or on from the past.
            past: keys and values of earlier calls, to which this call adds its own.
            stream: the residual stream before `layer`, to go on from: embedding and earlier layers are not computed,
                and of the tokens only the number matters.
            layer: where the stream is given; the number of layers goes on from behind the last.
        """
        before = past.length if past is not None else 0
        self.check_tokens(tokens, before)
        if past is not None and documents is not None:
            raise UsageError("a past keeps one document to a text: leave documents out, or past")
        if present is not None and present.shape[1] != before + tokens.shape[1]:
            raise UsageError(
                f"present says which of {present.shape[1]} positions are text, and there are"
                f" {before + tokens.shape[1]}: those of the past are among them"
            )
        view = PLAIN
        if documents is not None or present is not None or positions is not None or past is not None:
            view = self._view(tokens, documents, present, positions, past)
        if stream is None:
            x = self.through(self.layers, self.embed(tokens, view.positions), view)
        else:
            x = self.through(self._from(layer, stream, tokens), stream, view)
        x = self.final_norm(x)
        if past is not None:
            past.length, past.last = before + tokens.shape[1], tokens[:, -1:]
        return x * self.spec.logit_scale if self.spec.mup_base else x

    def unembedding(self) -> tuple[Float[Tensor, "D V"], Float[Tensor, " V"] | None]:
        """Return W_U, or the transposed embedding where it is tied, and b_U or None."""
        return (self.embed.W_E.mT, None) if self.unembed is None else (self.unembed.W_U, self.unembed.b_U)

    def _from(self, layer: int, stream: Tensor, tokens: Tensor) -> nn.ModuleList:
        """Return the layers that follow a stream.

        Raises:
            UsageError: there is no such layer, or the stream is not of these tokens.
        """
        if not 0 <= layer <= len(self.layers):
            raise UsageError(f"layer = {layer}: the stream can be given before 0 to {len(self.layers)}")
        if stream.shape != (*tokens.shape, self.spec.width):
            wanted = [*tokens.shape, self.spec.width]
            raise UsageError(f"a stream of {list(stream.shape)} is none of these tokens: {wanted} goes on from there")
        return self.layers[layer:]

    def _view(
        self,
        tokens: Tensor,
        documents: Tensor | None,
        present: Tensor | None,
        positions: Tensor | None,
        past: Cache | None,
    ) -> View:
        visible = None if documents is None else same_document(documents)
        if present is not None:
            unpadded = not_padding(present, tokens.shape[1])
            visible = unpadded if visible is None else visible & unpadded
        if positions is None and past is not None:
            positions = past.positions(tokens)
        return View(positions=positions, visible=visible, past=past)
