"""What a retrieval-enhanced decoder keeps between the calls of one generation."""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor

from etude.models.cache import Cache


class RetroCache(Cache):
    """Keys and values of what was read, the neighbours that the next tokens look at, and the beginning of a chunk whose
    neighbours are yet to be found.

    Attributes:
        neighbours: [B 1 J R E] of the last whole chunk, encoded; None before the first, and without retrieval.
        visible: [B 1 J R] which of their positions are text.
        held: [B M D] the stream in front of the first cross-attention, at the positions of the chunk that is not whole.
    """

    def __init__(self, context: int) -> None:
        super().__init__(context)
        self.neighbours: Float[Tensor, "B 1 J R E"] | None = None
        self.visible: Bool[Tensor, "B 1 J R"] | None = None
        self.held: Float[Tensor, "B M D"] | None = None

    def select(self, rows: Int[Tensor, " N"], sources: bool = True) -> None:
        """Keep these rows alone, in this order; see `Cache.select`."""
        super().select(rows, sources)
        for name in ("neighbours", "visible", "held"):
            kept = getattr(self, name)
            setattr(self, name, None if kept is None else kept[rows])

    def crop(self, length: int) -> bool:
        """Forget nothing: the neighbours of earlier chunks are gone, so that a text is read anew."""
        return False
