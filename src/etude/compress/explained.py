"""How much of the variance about the mean a codec keeps, gathered in float64 as batches pass."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

ROUNDING = 1e-12
"""What is left of float64 in a difference of sums over many tokens: a smaller share of the whole is no variance."""


@dataclass
class Explained:
    """Gathers how much of the variance about the mean a codec keeps of what passes it.

    The variance is summed over dimensions: 1 - sum |x - y|² / sum |x - mean|². About zero instead of the mean, the
    same ratio flatters activations that have a large constant part.
    """

    error: float = 0.0
    total: float = 0.0
    sum: Tensor | None = None
    count: int = 0

    def add(self, x: Tensor, y: Tensor) -> None:
        """Take in activations [..., D] and what is left of them."""
        x, y = x.flatten(0, -2).cpu().double(), y.flatten(0, -2).cpu().double()  # MPS has no float64
        self.error += float(((x - y) ** 2).sum())
        self.total += float((x**2).sum())
        self.sum = x.sum(0) if self.sum is None else self.sum + x.sum(0)
        self.count += len(x)

    @property
    def share(self) -> float | None:
        """The share that is kept, or None where there is no variance to keep."""
        if self.sum is None:
            return None
        variance = self.total - float((self.sum**2).sum()) / self.count
        return 1 - self.error / variance if variance > ROUNDING * self.total else None


def explained_of_weight(matrix: Tensor, smaller: Tensor) -> float | None:
    """Return the share of a matrix's squares that a smaller one keeps, or None where the matrix is zero."""
    error, total = (float((m.cpu().double() ** 2).sum()) for m in (matrix - smaller, matrix))
    return 1 - error / total if total > 0 else None
