"""Cluster, then encapsulate: a component as a few readable experts, and a tree over named features that routes."""

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
class Experts(Method):
    """Put a constant, or a linear map of low rank, in place of a component; which of a few, a shallow tree decides.

    Tokens are clustered, an expert is fitted to each cluster and tokens go to the expert that fits them best. A
    decision tree then learns to tell the clusters apart by what a person can name: the classes of the token and the one
    before it, whether they are one of the most frequent tokens, the position, and the coordinates along the principal
    directions of what the component reads. Each expert is fitted again to what the tree gives it, so that what is
    judged is the tree with its experts, not the clusters. A regression tree of the output, with a leaf for each expert,
    is tried beside it, and the better of them is kept. `flow_chart` prints it.

    Attributes:
        experts: how many.
        rank: of each expert's linear map; 0 is a constant.
        depth: questions that the tree asks at most.
        directions: how many principal directions of what the component reads the tree may ask about.
    """

    experts: int = 8
    rank: int = 0
    depth: int = 5
    directions: int = 8

    target: ClassVar[Target] = "component"
    sized: ClassVar[str] = "experts"
    counts: ClassVar[Counted] = "experts"
    label: ClassVar[str] = "experts"
    group: ClassVar[Group] = "experts"
    drawn: ClassVar[bool] = True

    def check(self) -> None:
        super().check()
        if self.rank < 0 or self.directions < 0 or self.depth < 1:
            raise UsageError(
                f"experts rank {self.rank}, directions {self.directions}, depth {self.depth}: the first two are 0 or"
                " more, the depth 1 or more"
            )
        if self.experts > 2**self.depth:
            leaves = 2**self.depth
            raise UsageError(
                f"experts.experts = {self.experts} does not fit: a tree of depth {self.depth} has {leaves} leaves;"
                f" choose 1 to {leaves}, or a greater depth"
            )

    def fit(self, material: Material, seed: int, run: Draft) -> Codec:
        from etude.compress.encapsulate import Shape, encapsulated
        from etude.compress.linear import require_size

        require_size(self.experts, len(material.values), "experts.experts", of="recorded tokens")
        if self.rank and material.inputs is not None:
            require_size(self.rank, min(material.inputs.shape[1], material.values.shape[1]), "experts.rank")
        shape = Shape(self.experts, self.rank, self.depth)
        return encapsulated(material, shape, self.directions, seed)

    def codec(self, tensors: Mapping[str, Tensor]) -> Codec:
        from etude.compress import experts

        return experts.Experts.of(tensors)

    def disk_bytes(self, width: int) -> int:
        held = self.experts * (2 * self.rank + 1) + self.directions + 1
        return 4 * width * held + 64 * 2**self.depth + (1 << 18)  # the last is a byte for each token's class
