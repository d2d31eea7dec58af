"""The retrieval-enhanced decoder (RETRO): at each chunk of a text it reads what a library has near the chunk before."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

from etude.core.errors import UsageError
from etude.models import sizes
from etude.models.architectures.base import Architecture
from etude.models.architectures.decoder import Decoder
from etude.nn.attention.base import AttentionShape

if TYPE_CHECKING:
    from etude.models.retro_model import RetroModel


@dataclass(frozen=True)
class Retro(Architecture):
    """A decoder with chunked cross-attention to neighbours from a library, which an encoder reads first (Borgeaud et
    al. 2021). Without neighbours it is exactly the decoder of the same fields.

    The encoder reads the decoder's token vectors, through a map where it has another width; the paper's has a table of
    its own. Encoder and cross-attention have rotary positions, whatever the decoder has, in place of the paper's
    learned functions of the distance.

    Attributes:
        chunk: tokens in a chunk of the text. A neighbour is as long, and comes with a continuation as long.
        cross_from: the first layer, counted from 0, that reads neighbours. The paper's 12 layers have 5.
        cross_every: it and every so many layers after it do.
        encoder_layers: of the encoder of neighbours.
        encoder_width: of its stream; 0 is half of the decoder's. It is a multiple of the decoder's head width.
        conditioned: whether the encoder looks at the chunk that the neighbours were found for, through cross-attention
            to the decoder's stream in layer `cross_from`.
    """

    layers: int = 6
    context: int = 256
    positions: Literal["learned", "sinusoidal", "rotary", "none"] = "rotary"
    chunk: int = 64
    cross_from: int = 2
    cross_every: int = 3
    encoder_layers: int = 2
    encoder_width: int = 0
    conditioned: bool = True

    def check(self) -> None:
        super().check()
        least = {"chunk": 2, "cross_from": 0, "cross_every": 1, "encoder_layers": 1, "encoder_width": 0}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise UsageError(f"{name} = {getattr(self, name)} is too small: it is {smallest} or more")
        if self.cross_from >= self.layers:
            raise UsageError(
                f"cross_from = {self.cross_from}: the model has {self.layers} layers, numbered from 0; choose one of"
                " them"
            )
        if self.parallel or self.norm_at == "post" or self.norm == "none":
            raise UsageError(
                "a retro has blocks that read the stream through a norm, one part after the other: leave"
                " parallel off, norm_at at 'pre', and choose a norm"
            )
        if self.mup_base:
            raise UsageError("µP is not defined for the encoder of neighbours: set mup_base to 0")
        if self.head_width % 2:
            raise UsageError(f"head width = {self.head_width} is odd, and rotary positions turn pairs: change heads")
        if self.read_width % self.head_width:
            raise UsageError(
                f"encoder_width = {self.read_width} is no multiple of the head width {self.head_width}: choose"
                f" {max(1, round(self.read_width / self.head_width)) * self.head_width}"
            )

    @property
    def crossing(self) -> tuple[int, ...]:
        """The layers that read neighbours."""
        return tuple(range(self.cross_from, self.layers, self.cross_every))

    @property
    def length(self) -> int:
        """Tokens of a neighbour with its continuation."""
        return 2 * self.chunk

    @property
    def read_width(self) -> int:
        """Width of the encoder's stream."""
        return self.encoder_width or max(1, self.width // 2 // self.head_width) * self.head_width

    @property
    def plain(self) -> Decoder:
        """The decoder that it is without neighbours."""
        return Decoder(**{f.name: getattr(self, f.name) for f in fields(Architecture)})

    @property
    def encoder(self) -> Decoder:
        """The stack that reads neighbours, as the shape of its blocks: they see all of a neighbour."""
        ratio = self.feedforward / self.width
        same = ("norm", "norm_epsilon", "activation", "gated", "biases", "dropout", "rotary_base", "spread")
        return Decoder(
            layers=self.encoder_layers,
            width=self.read_width,
            heads=self.read_width // self.head_width,
            feedforward=max(1, round(ratio * self.read_width / 8)) * 8 if self.feedforward else 0,
            context=self.length,
            positions="rotary",
            **{name: getattr(self, name) for name in same},
        )

    def reading_shape(self) -> AttentionShape:
        """Return what the encoder's attention to the retrieving chunk is told."""
        encoder = self.encoder
        return AttentionShape(
            width=encoder.width,
            heads=encoder.heads,
            context=self.length,
            biases=self.biases,
            dropout=self.dropout,
            rotary_base=self.rotary_base,
            causal=False,
            cross=True,
            source=self.width,
        )

    def crossing_shape(self) -> AttentionShape:
        """Return what chunked cross-attention is told."""
        return AttentionShape(
            width=self.width,
            heads=self.heads,
            context=self.context,
            biases=self.biases,
            dropout=self.dropout,
            rotary_base=self.rotary_base,
            kv_heads=self.kv_heads,
            causal=False,
            cross=True,
            source=self.read_width,
        )

    def parameters(self, vocabulary: int) -> int:
        encoder, attention = self.encoder, self.attention
        held = self.plain.parameters(vocabulary)
        held += len(self.crossing) * (attention.parameters(self.crossing_shape()) + sizes.norm(self))
        held += self.width * self.read_width if self.read_width != self.width else 0
        held += encoder.layers * sizes.layer(encoder) + sizes.final_norm(encoder)
        if self.conditioned:
            held += encoder.layers * (attention.parameters(self.reading_shape()) + sizes.norm(encoder))
        return held

    def flops_per_token(self, vocabulary: int, context: int | None = None) -> int:
        """Return the FLOPs of one position's forward pass without neighbours: those of the plain decoder. See
        `retrieval_flops` for what neighbours add."""
        return self.plain.flops_per_token(vocabulary, context)

    def retrieval_flops(self, k: int) -> int:
        """Return the FLOPs that k neighbours add to one position's forward pass, each read with its continuation."""
        if not k:
            return 0
        encoder, read, cross = self.encoder, self.reading_shape(), self.crossing_shape()
        each = sizes.layer_flops(encoder, self.length)
        chunk = 0
        if self.conditioned:  # queries of a neighbour's positions; keys and values of the chunk once for all neighbours
            each += 4 * read.width**2 + 4 * self.chunk * read.width
            chunk = 4 * self.width * read.width
        encoding = encoder.layers * (2 * k * each + chunk)
        encoding += 2 * k * 2 * self.width * self.read_width if self.read_width != self.width else 0
        G, K = cross.groups, cross.head_width
        crossing = 4 * self.width**2 + 2 * k * 4 * cross.source * G * K + 4 * k * self.length * self.width
        return encoding + len(self.crossing) * crossing

    def module(self, vocabulary: int) -> RetroModel:
        from etude.models.retro_model import RetroModel

        return RetroModel(self, vocabulary)
