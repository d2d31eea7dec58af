"""Reduced-rank regression: the best linear map through few numbers from what a component reads to what it writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from etude.compress.methods.base import Method, Target
from etude.core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from etude.compress.codec import Codec
    from etude.compress.material import Material
    from etude.core.run import Draft


@dataclass(frozen=True)
class ReducedRank(Method):
    """Put an affine map of low rank in place of a component (Izenman 1975).

    It reads what the component reads and not what the component wrote, so it says how much of the component is linear.
    The numbers of its code are the principal components of the best linear guess, about the mean.

    Attributes:
        rank: of the map.
        ridge: penalty of a squared coefficient, as a share of the mean variance of what is read.
    """

    rank: int = 20
    ridge: float = 0.0

    target: ClassVar[Target] = "component"
    sized: ClassVar[str] = "rank"
    label: ClassVar[str] = "reduced-rank regression"

    def check(self) -> None:
        super().check()
        if self.ridge < 0:
            raise UsageError(f"reduced-rank.ridge = {self.ridge} is no penalty: it is 0 or more")

    def disk_bytes(self, width: int) -> int:
        return 4 * width * (2 * self.rank + 2)

    def fit(self, material: Material, seed: int, run: Draft) -> Codec:
        from etude.compress.codec import Affine
        from etude.compress.linear import require_size
        from etude.compress.low_rank import reduced_rank_regression

        inputs, outputs = material.inputs, material.values
        if inputs is None or len(inputs) != len(outputs):
            found = None if inputs is None else len(inputs)
            raise UsageError(
                f"reduced-rank: {found} inputs for {len(outputs)} outputs; give what the component reads at each token"
            )
        require_size(self.rank, min(inputs.shape[1], outputs.shape[1]), "reduced-rank.rank")
        found = reduced_rank_regression(inputs, outputs, self.rank, self.ridge)
        return Affine(*(tensor.float() for tensor in found))

    def codec(self, tensors: Mapping[str, Tensor]) -> Codec:
        from etude.compress.codec import Affine

        return Affine.of(tensors)
