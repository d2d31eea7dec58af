"""Pruning of neurons: some pass as they are, a constant stands in place of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from etude.compress.methods.base import Counted, Group, Method
from etude.core.errors import UsageError
from etude.core.site import Site

if TYPE_CHECKING:
    from torch import Tensor

    from etude.compress.codec import Codec
    from etude.compress.material import Material
    from etude.core.run import Draft


@dataclass(frozen=True)
class PruneNeurons(Method):
    """Keep some numbers of an activation, as the neurons at `mlp.post`, and set the others to a constant.

    The `gradient` is the first-order score of Molchanov et al. 2017; `ablation` takes out each neuron alone and
    measures the loss, which takes a pass over the tokens for each.

    Attributes:
        keep: percentage of neurons that are kept, rounded to whole neurons; one at least.
        by: what says that a neuron matters: its magnitude, the gradient of the loss, or its ablation.
        to: what stands in place of the others: their mean over the training split, or zero.
        score_tokens: recorded tokens that the gradient and the ablations are measured on; 0 all of them.
    """

    keep: int = 50
    by: Literal["magnitude", "gradient", "ablation"] = "gradient"
    to: Literal["mean", "zero"] = "mean"
    score_tokens: int = 2048

    sized: ClassVar[str] = "keep"
    counts: ClassVar[Counted] = "kept"
    label: ClassVar[str] = "neurons pruned"
    group: ClassVar[Group] = "pruning"

    def check(self) -> None:
        super().check()
        if self.keep > 100 or self.score_tokens < 0:
            raise UsageError(
                f"{self.name}.keep = {self.keep} does not fit or score_tokens = {self.score_tokens} is under 0; choose"
                " 1 to 100 percent, and 0 or more tokens"
            )

    @property
    def rounds(self) -> bool:
        return True

    def at(self, component: Site) -> Site | None:
        return Site(f"L{component.layer}.mlp.post") if component.part == "mlp.out" else None

    def fit(self, material: Material, seed: int, run: Draft) -> Codec:
        from etude.compress.saliency import pruned

        width = material.values.shape[1]
        return pruned(material, width, self.keep, self.by, self.to, self.score_tokens, run)

    def codec(self, tensors: Mapping[str, Tensor]) -> Codec:
        from etude.compress.pruned import Masked

        return Masked.of(tensors)

    def disk_bytes(self, width: int) -> int:
        return (4 + 8 + 8 * 3) * width + 8  # the fill and what is kept, and three checkpoints of a score for each
