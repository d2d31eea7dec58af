"""An empty world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from etude.culture.worlds.base import World


@dataclass(frozen=True)
class Open(World):
    """No walls but the edge."""

    def walls(self, worlds: int, draw: np.random.Generator) -> Bool[np.ndarray, "B C"]:
        return np.zeros((worlds, self.size**2), dtype=bool)
