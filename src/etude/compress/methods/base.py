"""What a method of compression is: choices as data that fit a codec to activations or to a weight."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from etude.core.errors import UsageError
from etude.core.family import Member
from etude.core.site import Site

if TYPE_CHECKING:
    from torch import Tensor

    from etude.compress.codec import Codec
    from etude.compress.material import Material
    from etude.core.run import Draft


Target = Literal["activation", "weight", "component"]

Counted = Literal["dimensions", "codes", "latents", "features", "bits", "experts", "kept"]
"""What a size counts: numbers that pass for each token; entries of a codebook; latents of a sparse code that are kept
for a token; latents of a sparse code in all; bits of a number; experts; or the percentage of heads, neurons or weights
that is kept."""

Group = Literal["floor", "linear", "bottleneck", "discrete", "sparse", "experts", "pruning"]


@dataclass(frozen=True)
class Method(Member):
    """Base of the family.

    A method says in `target` what it stands in place of: an activation, which it reads and writes; a weight; or a whole
    component, of which it reads the input and writes the output. `sized` names the field that is its size, which a
    sweep varies ('' where it has none, as for a floor), `counts` says what that size counts, and `label` what a report
    calls it (its name where that is empty). `group` is the kind of method that it is. `drawn` says that another seed
    gives another codec; `reads_input`, for one that compresses a weight, that it is fitted to what the weight reads.
    """

    target: ClassVar[Target] = "activation"
    sized: ClassVar[str] = ""
    counts: ClassVar[Counted] = "dimensions"
    label: ClassVar[str] = ""
    group: ClassVar[Group] = "linear"
    drawn: ClassVar[bool] = False
    reads_input: ClassVar[bool] = False

    def check(self) -> None:
        """Refuse a size under 1. A member that overrides this calls it."""
        if self.sized and self.size < 1:
            raise UsageError(f"{self.name}.{self.sized} = {self.size} is too small: it is 1 or more")

    @abstractmethod
    def fit(self, material: Material, seed: int, run: Draft) -> Codec:
        """Return a codec fitted to the material.

        Args:
            material: activations or a weight, and what else there is to fit to.
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

    @property
    def rounds(self) -> bool:
        """Whether its code is of numbers for each token, which can be held in fewer bits."""
        return self.target != "weight" and self.counts in ("dimensions", "latents", "features") and bool(self.sized)

    def at(self, component: Site) -> Site | None:
        """Return the site where it stands to compress a component, or None where it cannot.

        Args:
            component: by its output, `L0.attn.out` or `L0.mlp.out`.
        """
        if self.target != "weight":
            return component
        return Site(f"{component.rpartition('.')[0]}.{'W_O' if component.part == 'attn.out' else 'W_out'}")

    def ladder(self, width: int) -> tuple[int, ...]:
        """Return the sizes, rising, that a map tries at a site (or the smaller side of a weight) of this width."""
        rungs = {"codes": (4, 16, 64, 256), "bits": (2, 4, 8), "kept": (10, 25, 50, 75, 90), "experts": (2, 4, 8, 16)}
        found = rungs.get(self.counts, tuple(n for n in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512) if n < width))
        return found if self.sized else (0,)

    def disk_bytes(self, width: int) -> int:
        """Return how many bytes the codec may take, with the checkpoints that stand while it is fitted.

        Args:
            width: D, or the longer side of a weight.
        """
        return 4 * width * (2 * self.size + 1)
