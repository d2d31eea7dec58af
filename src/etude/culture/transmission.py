"""Cultural transmission: how much better an agent does for having seen an expert, and what of it stays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Parts:
    """The four numbers of which cultural transmission is made, each a score of an episode.

    Attributes:
        full: of an agent whose expert is always there.
        half: of one whose expert leaves after half of the episode.
        solo: of one that is alone.
        expert: of the expert.
    """

    full: float
    half: float
    solo: float
    expert: float

    @property
    def transmission(self) -> float:
        """½ (full - solo) / expert + ½ (half - solo) / expert (arXiv 2203.00715, equation 1).

        0 is an agent whom the expert does not help, 1 one that keeps all that it saw. A solo score below 0 makes it
        larger than what was learned from the expert, and may take it above 1: it is never told without its parts.
        """
        parts = (np.array(each) for each in (self.full, self.half, self.solo, self.expert))
        return float(transmission(*parts))


def transmission(
    full: Float[np.ndarray, "*N"],
    half: Float[np.ndarray, "*N"],
    solo: Float[np.ndarray, "*N"],
    expert: Float[np.ndarray, "*N"],
) -> Float[np.ndarray, "*N"]:
    """Return cultural transmission of mean scores. An expert that scores nothing or less transmits nothing: 0."""
    gained = 0.5 * (full - solo) + 0.5 * (half - solo)
    return np.where(expert > 0, gained / np.maximum(expert, 1e-9), 0.0)
