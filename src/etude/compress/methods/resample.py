"""A floor: the activation of another token, whatever the input. Only which values are usual is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from etude.compress.methods.base import Group, Method
from etude.core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from etude.compress.codec import Codec
    from etude.compress.material import Material
    from etude.core.run import Draft


@dataclass(frozen=True)
class Resample(Method):
    """Put an activation recorded at a random place of the training split in place of each.

    The mean may be a vector that the model never sees; this floor has the distribution of the component's outputs and
    says nothing of the token. Which of the examples stands at a token is settled by a hash of the token, the one before
    it and the position, so it is the same in every run and batch.

    Attributes:
        examples: how many recorded activations are drawn from.
    """

    examples: int = 256

    group: ClassVar[Group] = "floor"
    drawn: ClassVar[bool] = True

    def check(self) -> None:
        super().check()
        if self.examples < 1:
            raise UsageError(f"resample.examples = {self.examples} is too few: it is 1 or more")

    def disk_bytes(self, width: int) -> int:
        return 4 * width * self.examples

    def fit(self, material: Material, seed: int, run: Draft) -> Codec:
        import torch

        from etude.compress.floors import Resampled
        from etude.compress.linear import require_size

        require_size(self.examples, len(material.values), "resample.examples", of="recorded tokens")
        draw = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(len(material.values), generator=draw)[: self.examples]
        return Resampled(material.values[chosen])

    def codec(self, tensors: Mapping[str, Tensor]) -> Codec:
        from etude.compress.floors import Resampled

        return Resampled(tensors["examples"])
