"""Residual quantisation: codebooks one after the other, each for what the ones before have left."""

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
class ResidualQuantisation(Method):
    """Put a sum of centres in place of an activation, one from each codebook; each is fitted to what is left.

    The first stages of a larger one are the smaller one, so the error on the data that it is fitted to never rises
    with the stages. On other text it may.

    Attributes:
        stages: how many codebooks.
        codes: entries of each.
        iterations: greatest number of Lloyd's iterations.
    """

    stages: int = 4
    codes: int = 64
    iterations: int = 30

    sized: ClassVar[str] = "stages"
    counts: ClassVar[Counted] = "codes"
    label: ClassVar[str] = "residual quantisation"
    group: ClassVar[Group] = "discrete"
    drawn: ClassVar[bool] = True

    def check(self) -> None:
        super().check()
        if self.codes < 2 or self.iterations < 1:
            raise UsageError(
                f"residual-quantisation codes {self.codes}, iterations {self.iterations}: the first is 2 or more, the"
                " second 1"
            )

    def ladder(self, width: int) -> tuple[int, ...]:
        return (1, 2, 4, 8)

    def disk_bytes(self, width: int) -> int:
        return 4 * self.stages * self.codes * (width + 1)

    def fit(self, material: Material, seed: int, run: Draft) -> Codec:
        import math

        from etude.compress.linear import require_size
        from etude.compress.staged import staged

        data = material.values
        # More would take more bits than the activation itself.
        most = int(32 * data.shape[1] / math.log2(self.codes))
        require_size(
            self.stages, most, "residual-quantisation.stages", of=f"times {self.codes} codes in 32-bit numbers"
        )
        require_size(self.codes, len(data), "residual-quantisation.codes", of="recorded tokens")
        return staged(data, self.stages, self.codes, self.iterations, seed, run)

    def codec(self, tensors: Mapping[str, Tensor]) -> Codec:
        from etude.compress.quantised import Residual

        return Residual(tensors["centres"], tensors["frequency"])
