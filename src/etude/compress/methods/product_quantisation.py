"""Product quantisation: a small codebook for each stretch of the dimensions."""

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
class ProductQuantisation(Method):
    """Put the nearest of a few centres in place of each stretch of an activation (Jégou, Douze and Schmid 2011).

    With P parts of C codes it has C^P values to choose from where it holds C. At a site of heads, as many parts as
    heads give each head a codebook.

    Attributes:
        codes: entries of the codebook of a part.
        parts: how many stretches the dimensions are divided into.
        iterations: greatest number of Lloyd's iterations.
    """

    codes: int = 64
    parts: int = 4
    iterations: int = 30

    sized: ClassVar[str] = "codes"
    counts: ClassVar[Counted] = "codes"
    label: ClassVar[str] = "product quantisation"
    group: ClassVar[Group] = "discrete"
    drawn: ClassVar[bool] = True

    def check(self) -> None:
        super().check()
        if self.parts < 1 or self.iterations < 1:
            raise UsageError(
                f"product-quantisation parts {self.parts}, iterations {self.iterations}: both are 1 or more"
            )

    def disk_bytes(self, width: int) -> int:
        return 4 * self.codes * (width + self.parts)

    def fit(self, material: Material, seed: int, run: Draft) -> Codec:
        import torch

        from etude.compress.clustering import clustered, tell_unused, used
        from etude.compress.codec import nearest
        from etude.compress.linear import require_size
        from etude.compress.quantised import Product
        from etude.core.seeds import stream

        data = material.values
        require_size(self.codes, len(data), "product-quantisation.codes", of="recorded tokens")
        require_size(self.parts, data.shape[1], "product-quantisation.parts")
        centres, frequency = [], []
        for number, part in enumerate(data.tensor_split(self.parts, 1)):
            centres.append(clustered(part, self.codes, self.iterations, stream(seed, "part", number)))
            frequency.append(used(nearest(part, centres[-1]), self.codes))
        tell_unused(torch.stack(frequency), run)
        return Product(torch.cat(centres, 1), torch.stack(frequency))

    def codec(self, tensors: Mapping[str, Tensor]) -> Codec:
        from etude.compress.quantised import Product

        return Product(tensors["centres"], tensors["frequency"])
