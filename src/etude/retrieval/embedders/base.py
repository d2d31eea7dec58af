"""What an embedder is: choices as data that make the live embedder, which is frozen and gives each chunk its key."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from jaxtyping import Bool, Float, Int

from etude.core.family import Member
from etude.core.recipe import Recipe
from etude.text.recipes import Tokens

if TYPE_CHECKING:
    from etude.core.run import Run
    from etude.text.chunks import Chunks
    from etude.text.tokenizers.live import Tokenizer

State = Mapping[str, np.ndarray]
"""What an embedder was fitted to, as arrays; nothing where it is not fitted."""


class LiveEmbedder(Protocol):
    """What gives keys. It is frozen: the same batch gives the same bytes."""

    @property
    def dimension(self) -> int:
        """Numbers in a key."""
        ...

    @property
    def identity(self) -> str:
        """Hash (64 hex) of all that decides a key: how it is made, and what was fitted, or a model's weights."""
        ...

    @property
    def at_once(self) -> int:
        """How many chunks it is best given."""
        ...

    def __call__(self, tokens: Int[np.ndarray, "B m"], present: Bool[np.ndarray, "B m"]) -> Float[np.ndarray, "B d"]:
        """Return the keys of chunks, float32.

        Args:
            tokens: the chunks.
            present: which tokens are there: a chunk at a document's end is shorter.
        """
        ...


def identity_of(*parts: str | bytes) -> str:
    """Return the identity of a live embedder: what is in its parts, and in which part."""
    hashes = [hashlib.sha256(part.encode() if isinstance(part, str) else part).digest() for part in parts]
    return hashlib.sha256(b"".join(hashes)).hexdigest()


@dataclass(frozen=True)
class Given:
    """What a live embedder is made with.

    Attributes:
        chunk: tokens in a chunk.
        tokenizer: what made the tokens.
        done: the runs at hand, those of the recipes in the embedder's fields among them.
    """

    chunk: int
    tokenizer: Tokenizer
    done: Mapping[Recipe, Run]


@dataclass(frozen=True)
class Embedder(Member, ABC):
    """Base of the family. A recipe in a member's fields, such as a model, is made before the library is."""

    @abstractmethod
    def live(self, state: State, given: Given) -> LiveEmbedder:
        """Return the live embedder.

        Args:
            state: what `fit` returned, now or when the library was made.
            given: the tokens that it is to read, and the runs at hand.

        Raises:
            UsageError: it cannot read these chunks.
            DamagedError: what it is made of is not what the recipe says.
        """

    @abstractmethod
    def expected_dimension(self) -> int:
        """Return how many numbers a key will have at most, before anything is made; 0 where that is unknown."""

    def fit(self, chunks: Chunks, say: Callable[[str], None] = lambda text: None) -> State:
        """Return what the embedder takes from the library's own chunks before any is embedded: here nothing.

        Args:
            chunks: of the library.
            say: takes a line for the person who waits.
        """
        return {}

    def check_fits(self, data: Tokens, chunk: int) -> None:
        """Raise UsageError where the recipes already tell that these chunks cannot be read."""
