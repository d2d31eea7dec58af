"""Who may look at whom by their places in the text: the causal rule, a window, or everybody, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor


@dataclass(frozen=True)
class Rule:
    """Which positions attention may look at.

    Attributes:
        causal: whether a position sees none that come after it.
        window: how many positions it sees on each side that it may look to, itself among them; 0 is all of them. A
            causal window of 3 is itself and the two before (Beltagy et al. 2020, section 3.1; Jiang et al. 2023).
    """

    causal: bool = True
    window: int = 0

    def limits(self, queries: int, keys: int) -> bool:
        """Return whether any of `queries` positions at the end of `keys` is kept from seeing any."""
        behind = 0 < self.window < keys  # the last query is far enough from the first key
        return behind or (self.causal and queries > 1)

    def mask(self, queries: int, keys: int, device: torch.device | None = None) -> Bool[Tensor, "T S"]:
        """Return the mask that is true where a query may see a key.

        Args:
            queries: how many; they are the last of the keys' positions, as when earlier keys are kept.
            keys: how many positions can be looked at.
            device: where to make it.
        """
        seen = torch.ones(queries, keys, dtype=torch.bool, device=device)
        now = keys - queries  # the first query's place
        if self.causal:
            seen = seen.tril(now)
        if self.window:
            seen = seen.triu(now - self.window + 1)
            seen = seen if self.causal else seen.tril(now + self.window - 1)
        return seen
