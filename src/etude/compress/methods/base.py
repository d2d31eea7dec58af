"""What a method of compression is: choices as data that fit a codec to activations or to a weight."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from etude.core.errors import UsageError
from etude.core.family import Member

if TYPE_CHECKING:
    from torch import Tensor

    from etude.compress.codec import Codec
    from etude.core.run import Draft


@dataclass(frozen=True)
class Method(Member):
    """Base of the family.

    A method says in `target` whether it compresses activations or weights, in `sized` which of its fields is the size
    that a sweep varies ('' where it has none, as for a floor), in `counts` what that size counts, and in `label` what a
    report calls it (its name where that is empty).
    """

    target: ClassVar[Literal["activation", "weight"]] = "activation"
    sized: ClassVar[str] = ""
    counts: ClassVar[Literal["dimensions", "codes"]] = "dimensions"
    label: ClassVar[str] = ""

    def check(self) -> None:
        """Refuse a size under 1. A member that overrides this calls it."""
        if self.sized and self.size < 1:
            raise UsageError(f"{self.name}.{self.sized} = {self.size} is too small: it is 1 or more")

    @abstractmethod
    def fit(self, data: Tensor, seed: int, run: Draft) -> Codec:
        """Return a codec fitted to the data.

        Args:
            data: activations [N, D] of the training split, or the weight as a matrix [M, N], inputs by outputs.
            seed: of whatever is drawn.
            run: where a method that takes steps checkpoints and logs them.

        Raises:
            UsageError: the size does not fit the data.
        """

    @abstractmethod
    def codec(self, tensors: Mapping[str, Tensor]) -> Codec:
        """Return the codec whose `state_dict` was saved."""

    @property
    def size(self) -> int:
        """The size that a sweep varies: dimensions of a code, or entries of a codebook. 0 for a floor."""
        return int(getattr(self, self.sized)) if self.sized else 0

    def disk_bytes(self, width: int) -> int:
        """Return how many bytes the codec may take, with the checkpoints that stand while it is fitted.

        Args:
            width: D, or the longer side of a weight.
        """
        return 4 * width * (2 * self.size + 1)
