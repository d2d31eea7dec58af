"""What every architecture is: a stack of blocks as plain data, which can count itself and build itself."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from etude.core.errors import UsageError
from etude.core.family import Member
from etude.nn.attention.base import Attention, AttentionShape
from etude.nn.attention.full import Full

if TYPE_CHECKING:
    from etude.models.transformer import Transformer


@dataclass(frozen=True)
class Architecture(Member, ABC):
    """A transformer's shape: the choices that every stack of blocks has. Members add what is theirs.

    Attributes:
        layers: how many blocks; 0 leaves embedding and unembedding (a bigram model).
        width: of the residual stream.
        heads: attention heads in each layer; they divide the width.
        kv_heads: groups of heads that share keys and values; 0 gives each head its own, 1 is multi-query attention.
        feedforward: hidden width of the feed-forward network; 0 makes the model attention-only.
        context: the longest text that it can read, in tokens.
        attention: who may look at whom.
        positions: how it knows where a token stands.
        norm: which norm, if any.
        norm_at: before each part reads the stream (and once at the end), or after each addition to it, as in 2017.
        norm_epsilon: added to the variance, so that a norm never divides by zero.
        activation: of the feed-forward network; gelu-tanh is GPT-2's approximation.
        gated: whether the activation of a second map multiplies the first: SwiGLU with silu, GEGLU with gelu.
        parallel: whether attention and feed-forward read the same stream side by side, as in GPT-NeoX.
        biases: whether the linear maps and layer norms add a bias. The unembedding does not (see
            the decoder's `unembed_bias`).
        tied: whether the unembedding is the embedding, transposed.
        scaled_embeddings: whether token vectors are multiplied by the square root of the width, as in 2017.
        dropout: chance that a number is dropped while training: in the embeddings, in the attention pattern and in
            what each part writes to the stream.
        rotary_base: of the rotary angles, where positions are rotary.
        rotary_fraction: how much of each head is turned, where positions are rotary.
        spread: standard deviation of the starting weights, where parts read through a norm: GPT-2's. What a
            map makes of its input grows with the root of the width, so that 64 has GPT-2's size at 0.07. Elsewhere the
            widths decide.
        mup_base: 0 for the standard parametrisation. Else the width at which µP equals it (Yang et al. 2022, table 8):
            a learning rate found there holds at every other width.
    """

    layers: int = 2
    width: int = 128
    heads: int = 4
    kv_heads: int = 0
    feedforward: int = 512
    context: int = 64
    attention: Attention = field(default_factory=Full)
    positions: Literal["learned", "sinusoidal", "rotary", "none"] = "learned"
    norm: Literal["layer", "rms", "none"] = "layer"
    norm_at: Literal["pre", "post"] = "pre"
    norm_epsilon: float = 1e-5
    activation: Literal["relu", "gelu", "gelu-tanh", "silu"] = "gelu"
    gated: bool = False
    parallel: bool = False
    biases: bool = True
    tied: bool = False
    scaled_embeddings: bool = False
    dropout: float = 0.0
    rotary_base: float = 10_000.0
    rotary_fraction: float = 1.0
    spread: float = 0.02
    mup_base: int = 0

    @abstractmethod
    def parameters(self, vocabulary: int) -> int:
        """Return how many numbers are learned, embeddings included, by arithmetic."""

    @abstractmethod
    def flops_per_token(self, vocabulary: int, context: int | None = None) -> int:
        """Return the FLOPs of one position's forward pass in a text of `context` tokens (by default the longest).

        The convention is that of `etude.models.sizes`.
        """

    @abstractmethod
    def module(self, vocabulary: int) -> Transformer:
        """Return the live model with its weights not yet set."""

    def build(self, vocabulary: int, seed: int = 0) -> Transformer:
        """Return the live model, on the CPU, with starting weights that the seed alone decides."""
        from etude.models.initial import initialise

        model = self.module(vocabulary)
        initialise(model, seed)
        return model

    def check(self) -> None:
        least = {"layers": 0, "width": 1, "heads": 1, "kv_heads": 0, "feedforward": 0, "context": 1, "mup_base": 0}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise UsageError(f"{name} = {getattr(self, name)} is too small: it is {smallest} or more")
        if self.width % self.heads:
            raise UsageError(_indivisible(self.width, self.heads))
        if self.kv_heads and self.heads % self.kv_heads:
            divisors = [str(n) for n in range(1, self.heads + 1) if self.heads % n == 0]
            raise UsageError(f"kv_heads = {self.kv_heads} does not divide heads = {self.heads}: {', '.join(divisors)}")
        if self.positions == "sinusoidal" and self.width % 2:
            raise UsageError(f"width = {self.width} is odd, and sinusoids come in pairs: choose {self.width + 1}")
        self._check_rotary()
        if self.norm == "none" and self.norm_at == "post":
            raise UsageError("norm_at = 'post' says nothing where norm = 'none': leave it at 'pre'")
        if self.parallel and self.norm_at == "post":
            raise UsageError("parallel blocks read the stream through a norm: set norm_at = 'pre'")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout = {self.dropout} is not a chance from 0 to below 1")
        if self.spread != 0.02 and (self.norm == "none" or self.norm_at == "post"):
            raise UsageError(f"spread = {self.spread} says nothing without a norm before each part: leave it at 0.02")
        for name in ("norm_epsilon", "rotary_base", "spread"):
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} = {getattr(self, name)} is not above 0")

    def _check_rotary(self) -> None:
        if not 0 < self.rotary_fraction <= 1:
            raise UsageError(f"rotary_fraction = {self.rotary_fraction} is not above 0 and at most 1")
        if self.positions != "rotary":
            return
        if self.rotary_fraction == 1 and self.head_width % 2:
            raise UsageError(
                f"head width = {self.head_width} (width {self.width} / heads {self.heads}) is odd, and rotary positions"
                f" turn pairs: choose width {self.width + self.heads}"
            )
        if self.attention_shape().rotary_width < 2:
            raise UsageError(
                f"rotary_fraction = {self.rotary_fraction} of a head of {self.head_width} is no pair:"
                f" give {2 / self.head_width:.3g} or more"
            )

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
    def logit_scale(self) -> float:
        """What the stream is multiplied by before the unembedding: 1, or under µP the base's width over this one."""
        return self.mup_base / self.width if self.mup_base else 1.0

    def attention_shape(self, layer: int = 0, *, causal: bool = True, cross: bool = False) -> AttentionShape:
        """Return what the attention of a layer is told.

        Args:
            layer: its number, from 0.
            causal: whether no position may see a later one.
            cross: whether it reads a source. Positions of two texts have no distance, so rotary ones do not act there.
        """
        scale = None
        if self.mup_base:  # 1/√K at the base, and falling with K instead of its root
            scale = math.sqrt(self.mup_base / self.heads) / self.head_width
        return AttentionShape(
            width=self.width,
            heads=self.heads,
            context=self.context,
            biases=self.biases,
            dropout=self.dropout,
            rotary_base=self.rotary_base if self.positions == "rotary" and not cross else None,
            rotary_fraction=self.rotary_fraction,
            kv_heads=self.kv_heads,
            scale=scale,
            layer=layer,
            causal=causal and not cross,
            cross=cross,
        )


def _indivisible(width: int, heads: int) -> str:
    widths = [w for w in (width // heads * heads, -(-width // heads) * heads) if w]
    divisors = [h for h in range(1, width + 1) if width % h == 0]
    around = [max(h for h in divisors if h <= heads), *[h for h in divisors if h > heads][:1]]
    return (
        f"width = {width} is not divisible by heads = {heads}:"
        f" choose width {' or '.join(map(str, widths))}, or heads {' or '.join(map(str, around))}"
    )
