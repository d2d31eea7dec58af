"""A floor: a random direction about the mean, as far from it as the activation was."""

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
class Noise(Method):
    """Put noise of the same distance from the mean in place of an activation: the distance alone is kept.

    What a compressor loses is often no longer than this, and harms less, since its error has the directions that it
    happens to have; this is what an error of full size in a random direction does. Which of the directions stands at a
    token is settled as in `resample`.

    Attributes:
        directions: how many are drawn from, uniform on the sphere.
    """

    directions: int = 256

    group: ClassVar[Group] = "floor"
    drawn: ClassVar[bool] = True

    def check(self) -> None:
        super().check()
        if self.directions < 1:
            raise UsageError(f"noise.directions = {self.directions} is too few: it is 1 or more")

    def disk_bytes(self, width: int) -> int:
        return 4 * width * (self.directions + 1)

    def fit(self, material: Material, seed: int, run: Draft) -> Codec:
        import torch

        from etude.compress.floors import Noisy

        draw = torch.Generator().manual_seed(seed)
        gaussian = torch.randn(self.directions, material.values.shape[1], generator=draw, dtype=torch.float64)
        directions = gaussian / gaussian.norm(dim=1, keepdim=True)
        return Noisy(material.values.mean(0, dtype=torch.float64).float(), directions.float())

    def codec(self, tensors: Mapping[str, Tensor]) -> Codec:
        from etude.compress.floors import Noisy

        return Noisy(tensors["centre"], tensors["directions"])
