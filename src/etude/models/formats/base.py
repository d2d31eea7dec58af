"""What a format is: which configurations it knows, and a table between its tensors and ours."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from etude.core.family import Member
from etude.models.architectures.base import Architecture

if TYPE_CHECKING:
    from torch import Tensor

    from etude.models.formats._config import Config


@dataclass(frozen=True)
class Row:
    """One tensor of a format and what it holds of ours. `give` undoes `take`: they move numbers and never change one.

    Attributes:
        ours: names in our `state_dict`; several where the format fuses them.
        theirs: its name in the format.
        take: from their tensor to ours, in the order of `ours`.
        give: from ours to theirs.
    """

    ours: tuple[str, ...]
    theirs: str
    take: Callable[[Tensor], tuple[Tensor, ...]]
    give: Callable[[tuple[Tensor, ...]], Tensor]


@dataclass(frozen=True)
class Reading:
    """What a configuration says.

    Attributes:
        spec: the architecture.
        vocabulary: rows of the embedding.
        remarks: what a person should know of the two not being the same in every respect.
    """

    spec: Architecture
    vocabulary: int
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Format(Member, ABC):
    """A way in which the ecosystem writes models down.

    Attributes:
        model_types: what `model_type` in a config.json says.
        classes: classes of transformers whose weights it reads, as in `architectures` of a config.json.
        trunk: what the names of all tensors but the head's begin with.
        heads: what the names of the head's begin with. A file may leave the trunk's prefix out.
        ignorable: patterns of the names of buffers that hold nothing learned.
    """

    model_types: ClassVar[tuple[str, ...]] = ()
    classes: ClassVar[tuple[str, ...]] = ()
    trunk: ClassVar[str] = ""
    heads: ClassVar[tuple[str, ...]] = ()
    ignorable: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def read(self, config: Config, names: Collection[str]) -> Reading:
        """Return what a configuration says.

        Args:
            config: the fields of its config.json; every one that changes an answer is asked for.
            names: the tensors that there are, as `canonical` has them.

        Raises:
            UsageError: a field has a value that Etude has no part for.
        """

    @abstractmethod
    def write(self, spec: Architecture, vocabulary: int) -> dict[str, Any]:
        """Return the config.json of an architecture, `architectures` and `model_type` in it.

        Raises:
            UsageError: the architecture cannot be said in this format; the message names what does not fit.
        """

    @abstractmethod
    def table(self, spec: Architecture) -> list[Row]:
        """Return the rows that hold every weight of an architecture."""

    def canonical(self, name: str, trunk: bool) -> str:
        """Return the name that a tensor has in the table.

        Args:
            name: as a file has it.
            trunk: whether the names in that file have the trunk's prefix.
        """
        name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name))
        return name if trunk or name.startswith(self.heads) else self.trunk + name

    def twins(self, spec: Architecture) -> Mapping[str, str]:
        """Return the tensors that a file may hold beside those of the table because they are others once more, such as
        the unembedding of a tied model, each with the name of the one it repeats."""
        return {}

    def is_ignorable(self, name: str) -> bool:
        """Return whether a tensor is a buffer that holds nothing learned."""
        return any(re.search(pattern, name) for pattern in self.ignorable)
