"""What one call of a model knows beside its tokens, handed through the layers: padding, documents, positions, a source
to attend to, and keys and values kept from earlier calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


@runtime_checkable  # so that checkers of types at run time can ask
class Past(Protocol):
    """Keys and values of earlier calls, kept by the attention that made them (`etude.models.cache`)."""

    def extend(
        self, owner: nn.Module, k: Float[Tensor, "B T G K"], v: Float[Tensor, "B T G K"], window: int
    ) -> tuple[Float[Tensor, "B S G K"], Float[Tensor, "B S G K"]]:
        """Keep the keys and values of new positions and return all that can be seen, the new ones last.

        Args:
            owner: the attention that they belong to.
            k: keys of the new positions.
            v: values of the new positions.
            window: how far its rule looks back, so that older ones need not be kept; 0 is to the start.
        """
        ...

    def source(self, owner: nn.Module) -> tuple[Float[Tensor, "B S G K"], Float[Tensor, "B S G K"]] | None:
        """Return the keys and values that a cross-attention made of its source, or None before its first call."""
        ...

    def keep_source(self, owner: nn.Module, k: Float[Tensor, "B S G K"], v: Float[Tensor, "B S G K"]) -> None:
        """Keep those of a source, which does not grow."""
        ...


@dataclass(frozen=True)
class View:
    """What the positions of one call may use; with every field left at None, each stands where its index says, all are
    text of one document, and only the attention's own rule limits what they see.

    Attributes:
        positions: [B T] where each token stands in its text, for rotary and learned positions. A call that goes on
            from a past, or texts padded on the left, need it.
        visible: true where a position may see another, beside the rule: neither padding nor another document.
            [B 1 T S], or [B 1 1 S] where it is the same for every position. S counts all positions so far; attention
            that keeps the last of them alone takes the last of these too.
        source: [N S E] what cross-attention reads: one for each text, or one for every so many that follow each other.
        source_visible: the same for the source.
        past: keys and values of earlier calls.
        crossing: whether layers that have cross-attention use it. Off, they are those of a plain decoder.
        neighbours: [B U J R E] what chunked cross-attention reads: of each chunk its neighbours, encoded.
        neighbours_visible: which of their positions are text.
        before: positions of each text that were read in earlier calls, which decide where its chunks lie.
    """

    positions: Int[Tensor, "B T"] | None = None
    visible: Bool[Tensor, "B 1 #T S"] | None = None
    source: Float[Tensor, "N S_read E"] | None = None
    source_visible: Bool[Tensor, "N 1 1 S_read"] | None = None
    past: Past | None = None
    crossing: bool = True
    neighbours: Float[Tensor, "B U J R E"] | None = None
    neighbours_visible: Bool[Tensor, "B U J R"] | None = None
    before: int = 0


PLAIN = View()
"""The view of a plain text."""


def same_document(documents: Int[Tensor, "B T"]) -> Bool[Tensor, "B 1 T T"]:
    """Return the mask under which a position sees those of its own document alone."""
    return (documents[:, :, None] == documents[:, None, :])[:, None]


def not_padding(present: Bool[Tensor, "B S"], queries: int = 0) -> Bool[Tensor, "B 1 #T S"]:
    """Return the mask under which nobody sees padding.

    Args:
        present: false where there is padding.
        queries: 0 gives one row for every position, which is right where padding too may look at text. Else so many
            rows, for the last positions, each of which sees itself: under a causal rule padding on the left would see
            nothing at all, and its not-a-numbers would reach others.
    """
    rows = present[:, None, None, :]
    if not queries:
        return rows
    keys = present.shape[1]
    places = torch.arange(keys, device=present.device)
    return rows | (places[keys - queries :, None] == places)
