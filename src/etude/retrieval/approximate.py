"""What looks through the lists of the nearest centroids, whatever keeps the lists."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from etude.retrieval.exact import Found, Keys


@runtime_checkable
class Approximate(Protocol):
    """Keys in lists, to be searched.

    Attributes:
        keys: what is searched.
        probes: lists that each query looks through, 1 to `most`.
    """

    keys: Keys
    probes: int

    @property
    def most(self) -> int:
        """How many lists there are."""
        ...

    def search(self, queries: Float[np.ndarray, "Q d"], k: int, own: Int[np.ndarray, " Q"] | None = None) -> Found:
        """Return nearly the k nearest keys of each query, with their true distances. A query whose lists hold fewer
        than k that it may find is searched exactly.

        Args:
            queries: float32.
            k: how many.
            own: see `exact`.

        Raises:
            UsageError: see `exact`.
        """
        ...
