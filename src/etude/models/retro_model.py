"""The live retrieval-enhanced decoder: layers that read neighbours, and the encoder that reads them first."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from etude.core.errors import UsageError
from etude.models.architectures.retro import Retro
from etude.models.retro_cache import RetroCache
from etude.models.transformer import Transformer, block, embedding, final_norm
from etude.nn.block import Block
from etude.nn.chunked_cross_attention import ChunkedCrossAttention, Lot
from etude.nn.embedding import Unembedding, embed
from etude.nn.linear import linear, weight
from etude.nn.multi_head import MultiHead
from etude.nn.taps import Tap
from etude.nn.view import View, not_padding


class NeighbourEncoder(nn.Module):
    """Reads neighbours, each with its continuation: every position sees the whole of its neighbour, and, through
    cross-attention, the chunk that the neighbour was found for (Borgeaud et al. 2021, section 2.3)."""

    def __init__(self, spec: Retro) -> None:
        super().__init__()
        shape = spec.encoder
        self.W_R = weight(spec.width, shape.width) if shape.width != spec.width else None
        self.axes = {"W_R": "D E"}
        reads = [MultiHead(spec.reading_shape()) if spec.conditioned else None for _ in range(shape.layers)]
        self.layers = nn.ModuleList(block(shape, n, read, causal=False) for n, read in enumerate(reads))
        self.final_norm = final_norm(shape)
        self.out = Tap("B U J R E", E=shape.width, R=spec.length)

    def forward(
        self,
        vectors: Float[Tensor, "B U J R D"],
        present: Bool[Tensor, "B U J R"] | None,
        chunks: Float[Tensor, "B U M D"],
    ) -> Float[Tensor, "B U J R E"]:
        """Return the encoded neighbours.

        Args:
            vectors: the neighbours' token vectors.
            present: which of their positions are text; None is all.
            chunks: the decoder's stream at the chunks that they were found for.
        """
        lots = vectors.shape[:3]
        x = (vectors if self.W_R is None else linear(vectors, self.W_R)).flatten(0, 2)
        visible = None
        if present is not None:  # a neighbour that is not there at all sees itself, so that no row is empty
            there = present.flatten(0, 2)
            visible = not_padding(there | ~there.any(-1, keepdim=True))
        view = View(visible=visible, source=chunks.flatten(0, 1), crossing=True)
        for layer in self.layers:
            x = layer(x, view)
        return self.out(self.final_norm(x).unflatten(0, lots))


class RetroModel(Transformer[Retro]):
    """A decoder that reads neighbours of its text's chunks. Its weights have the decoder's names, so that a trained
    decoder's can be put into it."""

    def __init__(self, spec: Retro, vocabulary: int) -> None:
        super().__init__(spec, vocabulary)
        self.embed = embedding(spec, vocabulary)
        crossing, shape = set(spec.crossing), spec.crossing_shape()
        reads = [
            ChunkedCrossAttention(shape, spec.chunk, spec.length) if n in crossing else None for n in range(spec.layers)
        ]
        self.layers = nn.ModuleList(block(spec, n, read) for n, read in enumerate(reads))
        self.final_norm = final_norm(spec)
        self.unembed = None if spec.tied else Unembedding(spec.width, vocabulary)
        self.encoder = NeighbourEncoder(spec)
        self.logits = Tap("B T V", V=vocabulary)

    def hidden(
        self,
        tokens: Int[Tensor, "B T"],
        *,
        neighbours: Int[Tensor, "B U J R"] | None = None,
        neighbours_present: Bool[Tensor, "B U J R"] | None = None,
        past: RetroCache | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Return the vectors that the unembedding reads.

        Args:
            tokens: the texts, each from its beginning or on from the past.
            neighbours: tokens of the neighbours of each chunk that these tokens complete, with their continuations; as
                many of each as wanted. None reads none, and the model is the plain decoder.
            neighbours_present: which of them are text; None is all.
            past: keys and values of earlier calls, and the neighbours of the last chunk.

        Raises:
            UsageError: the neighbours are not those of the chunks.
        """
        before = past.length if past is not None else 0
        self.check_tokens(tokens, before)
        positions = None if past is None else past.positions(tokens)
        view = View(positions=positions, past=past, crossing=False, before=before)
        first, x = self.spec.cross_from, self.embed(tokens, positions)
        if neighbours is None and past is None:
            x = self.through(self.layers, x, view)
        else:
            x = self.through(self.layers[:first], x, view)
            layer = cast(Block, self.layers[first])
            x = layer.to_cross(x, view)
            view = self._across(view, x, neighbours, neighbours_present, past)
            x = layer.from_cross(x, view)
            x = self.through(self.layers[first + 1 :], x, view)
        if past is not None:
            past.length, past.last = before + tokens.shape[1], tokens[:, -1:]
        return self.final_norm(x)

    def unembedding(self) -> tuple[Float[Tensor, "D V"], Float[Tensor, " V"] | None]:
        """Return W_U, or the transposed embedding where it is tied; there is no bias."""
        return (self.embed.W_E.mT, None) if self.unembed is None else (self.unembed.W_U, self.unembed.b_U)

    def cache(self) -> RetroCache:
        """Return what keeps the positions that one generation has read, and their neighbours."""
        return RetroCache(self.spec.context)

    def grown(self, name: str) -> bool:
        """Return whether a weight is of the encoder or of cross-attention, which the plain decoder lacks."""
        return name.startswith("encoder.") or ".cross." in name or ".cross_norm." in name

    def encode(
        self,
        neighbours: Int[Tensor, "B U J R"],
        present: Bool[Tensor, "B U J R"] | None,
        chunks: Float[Tensor, "B U M D"],
    ) -> Float[Tensor, "B U J R E"]:
        """Return what the encoder makes of neighbours. See `NeighbourEncoder`."""
        vectors = embed(neighbours.flatten(0, 2), self.embed.W_E, self.embed.scaled)
        return self.encoder(vectors.unflatten(0, neighbours.shape[:3]), present, chunks)

    def _across(
        self,
        view: View,
        x: Float[Tensor, "B T D"],
        neighbours: Int[Tensor, "B U J R"] | None,
        present: Bool[Tensor, "B U J R"] | None,
        past: RetroCache | None,
    ) -> View:
        """Return the view of the layers from the first that reads neighbours on, with these encoded."""
        size, before, T = self.spec.chunk, view.before, x.shape[1]
        whole = (before + T) // size - before // size
        held = x if past is None or past.held is None else torch.cat((past.held, x), dim=1)
        parts: list[tuple[Tensor, Tensor]] = []
        if past is not None and past.neighbours is not None and past.visible is not None:
            parts.append((past.neighbours, past.visible))
        if neighbours is not None:
            self._check_neighbours(neighbours, present, whole, parts)
            if present is None:
                present = torch.ones_like(neighbours, dtype=torch.bool)
            if whole:
                chunks = held[:, : whole * size].unflatten(1, (whole, size))
                parts.append((self.encode(neighbours, present, chunks), present))
        elif whole and parts:
            raise UsageError(
                "these tokens complete a chunk, and those before it had neighbours: give neighbours= of this one too"
            )
        read, visible = _latest(parts, Lot.of(T, size, before).lots)
        if past is not None:
            past.held = held[:, whole * size :]
            past.neighbours, past.visible = _latest(parts, 1)
        if read is None:
            return view
        return replace(view, crossing=True, neighbours=read, neighbours_visible=visible)

    def _check_neighbours(
        self, neighbours: Tensor, present: Tensor | None, whole: int, before: list[tuple[Tensor, Tensor]]
    ) -> None:
        """Raise UsageError where neighbours are not those of the chunks that are completed, or of another size."""
        chunks, each, length = neighbours.shape[1:]
        if chunks != whole:
            raise UsageError(f"these tokens complete {whole} chunks, and neighbours of {chunks} are given")
        if length != self.spec.length:
            raise UsageError(
                f"neighbours of {length} tokens are not those of chunks of {self.spec.chunk} with their continuation:"
                f" give {self.spec.length}"
            )
        if present is not None and present.shape != neighbours.shape:
            raise UsageError(f"neighbours of {list(neighbours.shape)} and neighbours_present of {list(present.shape)}")
        if before and each != before[0][0].shape[2]:
            raise UsageError(f"{each} neighbours of a chunk after {before[0][0].shape[2]} of the ones before it")


def _latest(parts: list[tuple[Tensor, Tensor]], lots: int) -> tuple[Tensor | None, Tensor | None]:
    """Return the last lots of encoded neighbours, and which of their positions are text; lots in front of all that is
    known have nothing to see."""
    if not parts or not lots:
        return None, None
    read, visible = (torch.cat(each, dim=1)[:, -lots:] for each in zip(*parts, strict=True))
    missing = lots - read.shape[1]
    if missing:
        rows, _, *rest = read.shape
        read = torch.cat((read.new_zeros(rows, missing, *rest), read), dim=1)
        visible = torch.cat((visible.new_zeros(rows, missing, *rest[:-1]), visible), dim=1)
    return read, visible
