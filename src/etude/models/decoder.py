"""The decoder as plain data: what decides its shape, and what can be known before it is built."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from etude.core.errors import UsageError
from etude.core.spec import Spec
from etude.models import sizes
from etude.nn.attention.base import Attention, AttentionShape
from etude.nn.attention.full import Full

if TYPE_CHECKING:
    from etude.models.decoder_model import DecoderModel


@dataclass(frozen=True)
class Decoder(Spec):
    """A decoder-only transformer: it reads a text and predicts, at each position, the next token.

    Attributes:
        layers: how many blocks; 0 leaves embedding and unembedding (a bigram model).
        width: of the residual stream.
        heads: attention heads in each layer; they divide the width.
        feedforward: hidden width of the feed-forward network; 0 makes the model attention-only.
        context: the longest text that it can read, in tokens.
        attention: who may look at whom.
        positions: how it knows where a token stands.
        norm: which norm, if any.
        norm_at: before each part reads the stream (and once at the end), or after each addition to it, as in 2017.
        norm_epsilon: added to the variance, so that a norm never divides by zero.
        activation: of the feed-forward network; gelu-tanh is GPT-2's approximation.
        biases: whether the linear maps and layer norms add a bias. The unembedding never does.
        tied: whether the unembedding is the embedding, transposed.
        scaled_embeddings: whether token vectors are multiplied by the square root of the width, as in 2017.
        dropout: chance that a number is dropped while training: in the embeddings, in the attention pattern and in
            what each part writes to the stream.
        rotary_base: of the rotary angles, where positions are rotary.
    """

    layers: int = 2
    width: int = 128
    heads: int = 4
    feedforward: int = 512
    context: int = 64
    attention: Attention = field(default_factory=Full)
    positions: Literal["learned", "sinusoidal", "rotary", "none"] = "learned"
    norm: Literal["layer", "rms", "none"] = "layer"
    norm_at: Literal["pre", "post"] = "pre"
    norm_epsilon: float = 1e-5
    activation: Literal["relu", "gelu", "gelu-tanh"] = "gelu"
    biases: bool = True
    tied: bool = False
    scaled_embeddings: bool = False
    dropout: float = 0.0
    rotary_base: float = 10_000.0

    @classmethod
    def tag(cls) -> dict[str, Any]:
        return {"architecture": "decoder"}

    def check(self) -> None:
        for name, least in {"layers": 0, "width": 1, "heads": 1, "feedforward": 0, "context": 1}.items():
            if getattr(self, name) < least:
                raise UsageError(f"{name} = {getattr(self, name)} is too small: it is {least} or more")
        if self.width % self.heads:
            raise UsageError(_indivisible(self.width, self.heads))
        if self.positions == "sinusoidal" and self.width % 2:
            raise UsageError(f"width = {self.width} is odd, and sinusoids come in pairs: choose {self.width + 1}")
        if self.positions == "rotary" and self.head_width % 2:
            raise UsageError(
                f"head width = {self.head_width} (width {self.width} / heads {self.heads}) is odd, and rotary positions"
                f" turn pairs: choose width {self.width + self.heads}"
            )
        if self.norm == "none" and self.norm_at == "post":
            raise UsageError("norm_at = 'post' says nothing where norm = 'none': leave it at 'pre'")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout = {self.dropout} is not a chance from 0 to below 1")
        for name in ("norm_epsilon", "rotary_base"):
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} = {getattr(self, name)} is not above 0")

    def fits(self, context: int) -> None:
        """Raise UsageError where a text of `context` tokens is longer than the model can read."""
        if context > self.context:
            raise UsageError(
                f"a text of {context} tokens is longer than the model's context of {self.context}:"
                " shorten the text, or build the model with a longer context"
            )

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def attention_only(self) -> bool:
        return self.feedforward == 0

    @property
    def attention_shape(self) -> AttentionShape:
        base = self.rotary_base if self.positions == "rotary" else None
        return AttentionShape(self.width, self.heads, self.context, self.biases, self.dropout, base)

    def parameters(self, vocabulary: int) -> int:
        """Return how many numbers are learned, embeddings included, by arithmetic."""
        return sizes.parameters(self, vocabulary)

    def flops_per_token(self, vocabulary: int, context: int | None = None) -> int:
        """Return the FLOPs of one token's forward pass in a text of `context` tokens (by default the longest).

        The convention is that of `etude.models.sizes`.
        """
        return sizes.flops_per_token(self, vocabulary, self.context if context is None else context)

    def build(self, vocabulary: int, seed: int = 0) -> DecoderModel:
        """Return the live model, on the CPU, with starting weights that the seed alone decides."""
        from etude.models.decoder_model import DecoderModel
        from etude.models.initial import initialise

        model = DecoderModel(self, vocabulary)
        initialise(model, seed)
        return model


def _indivisible(width: int, heads: int) -> str:
    widths = [w for w in (width // heads * heads, -(-width // heads) * heads) if w]
    divisors = [h for h in range(1, width + 1) if width % h == 0]
    around = [max(h for h in divisors if h <= heads), *[h for h in divisors if h > heads][:1]]
    return (
        f"width = {width} is not divisible by heads = {heads}:"
        f" choose width {' or '.join(map(str, widths))}, or heads {' or '.join(map(str, around))}"
    )
