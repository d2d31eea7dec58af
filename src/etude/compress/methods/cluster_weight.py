"""Clustered weights: each number of a weight as the nearest of a few shared ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from etude.compress.methods.base import Counted, Group, Method, Target
from etude.core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from etude.compress.codec import Codec
    from etude.compress.material import Material
    from etude.core.run import Draft


@dataclass(frozen=True)
class ClusterWeight(Method):
    """Put the nearest of a few centres in place of each number of a weight (Han, Mao and Dally 2016, section 3).

    The centres are by k-means of the single numbers, and are not trained further.

    Attributes:
        codes: how many centres.
        iterations: greatest number of Lloyd's iterations.
    """

    codes: int = 16
    iterations: int = 300

    target: ClassVar[Target] = "weight"
    sized: ClassVar[str] = "codes"
    counts: ClassVar[Counted] = "codes"
    label: ClassVar[str] = "clustered weight"
    group: ClassVar[Group] = "discrete"

    def check(self) -> None:
        super().check()
        if self.iterations < 1:
            raise UsageError(f"cluster-weight.iterations = {self.iterations} is too few: it is 1 or more")

    def disk_bytes(self, width: int) -> int:
        return width * width * (1 if self.codes <= 256 else 4) + 4 * self.codes

    def fit(self, material: Material, seed: int, run: Draft) -> Codec:
        import torch

        from etude.compress.clustering import clustered_numbers, tell_unused, used
        from etude.compress.linear import require_size
        from etude.compress.stored import StoredClusters

        weight = material.values
        require_size(self.codes, weight.numel(), "cluster-weight.codes", of="numbers in this weight")
        centres = clustered_numbers(weight.flatten(), self.codes, self.iterations)
        numbers = torch.bucketize(weight, (centres[1:] + centres[:-1]) / 2)
        tell_unused(used(numbers, self.codes), run)
        return StoredClusters(numbers.to(torch.uint8 if self.codes <= 256 else torch.int32), centres)

    def codec(self, tensors: Mapping[str, Tensor]) -> Codec:
        from etude.compress.stored import StoredClusters

        return StoredClusters(tensors["numbers"], tensors["centres"])
