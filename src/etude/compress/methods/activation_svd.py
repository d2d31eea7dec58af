"""The matrix of a lower rank in place of a weight that changes least of what the weight writes, given what it reads."""

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
class ActivationSvd(Method):
    """Put in place of a weight the matrix of lower rank that is least wrong on the activations which it reads.

    It is the W' of that rank with the least E|x W - x W'|², where `svd` has the least |W - W'|². The directions that
    the weight reads count for as much as they are used: those that the text never enters cost nothing. SVD-LLM (Wang et
    al. 2024) comes to the same matrix by whitening; here the outputs are projected on their principal directions,
    about zero, which needs no inverse.

    Attributes:
        rank: of the matrix.
    """

    rank: int = 20

    target: ClassVar[Target] = "weight"
    sized: ClassVar[str] = "rank"
    label: ClassVar[str] = "SVD by activations"
    reads_input: ClassVar[bool] = True

    def fit(self, material: Material, seed: int, run: Draft) -> Codec:
        from etude.compress.codec import Factored
        from etude.compress.linear import require_size
        from etude.compress.low_rank import principal_outputs, second_moment

        weight, inputs = material.values.double(), material.inputs
        require_size(self.rank, min(weight.shape), "activation-svd.rank")
        if inputs is None or inputs.shape[1] != len(weight):
            found = None if inputs is None else tuple(inputs.shape)
            raise UsageError(
                f"activation-svd: inputs of shape {found} for a weight of {tuple(weight.shape)}; give what the weight"
                f" reads, [N {len(weight)}]"
            )
        directions = principal_outputs(weight, second_moment(inputs))[0][:, : self.rank]
        return Factored((weight @ directions).float(), directions.T.float())

    def codec(self, tensors: Mapping[str, Tensor]) -> Codec:
        from etude.compress.codec import Factored

        return Factored(tensors["left"], tensors["right"])
