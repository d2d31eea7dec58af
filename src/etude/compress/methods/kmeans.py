"""A codebook by k-means: the nearest of a few prototypes in place of every activation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from etude.compress.methods.base import Counted, Group, Method
from etude.core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from etude.compress.codec import Codec
    from etude.compress.material import Material
    from etude.core.run import Draft


@dataclass(frozen=True)
class Kmeans(Method):
    """Put the nearest of `codes` centres in place of an activation (Lloyd's algorithm, k-means++ starts).

    Attributes:
        codes: entries of the codebook.
        iterations: greatest number of Lloyd's iterations.
    """

    codes: int = 64
    iterations: int = 30

    sized: ClassVar[str] = "codes"
    counts: ClassVar[Counted] = "codes"
    label: ClassVar[str] = "k-means"
    group: ClassVar[Group] = "discrete"
    drawn: ClassVar[bool] = True

    def check(self) -> None:
        super().check()
        if self.iterations < 1:
            raise UsageError(f"kmeans.iterations = {self.iterations} is too few: it is 1 or more")

    def fit(self, material: Material, seed: int, run: Draft) -> Codec:
        from etude.compress.clustering import clustered, tell_unused, used
        from etude.compress.codec import Codebook, nearest
        from etude.compress.linear import require_size

        data = material.values
        require_size(self.codes, len(data), "kmeans.codes", of="recorded tokens")
        centres = clustered(data, self.codes, self.iterations, seed)
        frequency = used(nearest(data, centres), self.codes)
        tell_unused(frequency, run)
        return Codebook(centres, frequency)

    def codec(self, tensors: Mapping[str, Tensor]) -> Codec:
        from etude.compress.codec import Codebook

        return Codebook(tensors["centres"], tensors["frequency"])
