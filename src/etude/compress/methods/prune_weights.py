"""Pruning of a weight's single numbers: those that matter least are set to 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from etude.compress.methods.base import Counted, Group, Method, Target
from etude.core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from etude.compress.codec import Codec
    from etude.compress.material import Material
    from etude.core.run import Draft


@dataclass(frozen=True)
class PruneWeights(Method):
    """Keep some numbers of a weight and set the others to 0. What passes is as wide as before; the weight is smaller.

    The `gradient` is |w · dL/dw|, the first-order score of Molchanov et al. 2017. Each number's own ablation would take
    a pass over the text for every one of them, and is not offered.

    Attributes:
        keep: percentage of numbers that are kept; one at least.
        by: what says that a number matters: its magnitude or the gradient of the loss.
        score_tokens: recorded tokens that the gradient is measured on; 0 all of them.
    """

    keep: int = 50
    by: Literal["magnitude", "gradient"] = "magnitude"
    score_tokens: int = 2048

    target: ClassVar[Target] = "weight"
    sized: ClassVar[str] = "keep"
    counts: ClassVar[Counted] = "kept"
    label: ClassVar[str] = "weights pruned"
    group: ClassVar[Group] = "pruning"

    def check(self) -> None:
        super().check()
        if self.keep > 100 or self.score_tokens < 0:
            raise UsageError(
                f"{self.name}.keep = {self.keep} does not fit or score_tokens = {self.score_tokens} is under 0; choose"
                " 1 to 100 percent, and 0 or more tokens"
            )

    def fit(self, material: Material, seed: int, run: Draft) -> Codec:
        from etude.compress.pruned import Sparse, kept_units
        from etude.compress.saliency import scores_of_weight

        scores = scores_of_weight(material, self.by, self.score_tokens)
        return Sparse.keeping(kept_units(scores.flatten(), self.keep), material.values)

    def codec(self, tensors: Mapping[str, Tensor]) -> Codec:
        from etude.compress.pruned import Sparse

        return Sparse(tensors["mask"], tensors["numbers"])

    def disk_bytes(self, width: int) -> int:
        return 5 * width**2  # four bytes a number and one for its place; no side is longer
