"""The recipe that turns a corpus into tokens."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

from etude.core.errors import UsageError
from etude.core.recipe import Estimate, Recipe
from etude.text.corpora.base import Corpus
from etude.text.corpora.pylib import Pylib
from etude.text.splits import SPLITS
from etude.text.tokenizers.base import TokenizerSpec
from etude.text.tokenizers.bpe import BytePair
from etude.text.tokenizers.live import ROLES

PARAGRAPH = "_START_PARAGRAPH_"
"""The mark before the first paragraph of a section in wiki40b."""


@dataclass(frozen=True)
class Tokens(Recipe, kind="tokens", does="etude.text.work:tokens"):
    """A corpus as tokens: its run holds the tokenizer, and one store for each split, with labels and sides where the
    corpus has them.

    Attributes:
        corpus: where the text comes from.
        tokenizer: what makes tokens of it. One that is trained sees the training split alone.
        openings: 0 keeps whole documents. N keeps the first N tokens after the first `_START_PARAGRAPH_` of each, as
            for wiki40b's articles; documents without that mark are left out and counted.
        like: other tokens, whose tokenizer is taken as it came out there, so that a model can read this corpus in its
            own tokens; none makes a tokenizer.
    """

    version: ClassVar[int] = 2  # 2: stores have another layout, with labels and sides

    corpus: Corpus = field(default_factory=Pylib)
    tokenizer: TokenizerSpec = field(default_factory=BytePair)
    openings: int = 0
    like: Tokens | None = None

    def check(self) -> None:
        if self.like is not None and self.like.tokenizer != self.tokenizer:
            raise UsageError(
                f"like has the tokenizer {self.like.tokenizer.name} and these tokens another: give them the same one"
            )
        if self.openings < 0:
            raise UsageError(f"openings = {self.openings}: give 0 for whole documents, or how many tokens of each")

    def estimate(self) -> Estimate:
        """Return the room on disk, from above: byte-pair encoding makes a token of two bytes or more in any text that
        it was not made to fail on, and a store takes two or four bytes a token."""
        vocabulary = self.tokenizer.expected_vocabulary()
        each = (2 if vocabulary <= 1 << 16 else 4) * (1.0 if vocabulary <= 257 + len(ROLES) else 0.5)
        whole = 0 if self.openings else sum(self.corpus.size(split) for split in SPLITS)
        return Estimate(disk_bytes=round(each * whole))


@dataclass(frozen=True)
class NeighboursRecipe(Recipe):
    """A recipe whose run holds, for each chunk of a text, the nearest chunks of a library: what a model that retrieves
    is trained on. For each split that it has there are `SPLIT.neighbours.npy` and `SPLIT.distances.npy`, see
    `etude.text.neighbours.NeighbourTable`."""

    @property
    @abstractmethod
    def text(self) -> Tokens:
        """The text whose chunks have neighbours."""

    @property
    @abstractmethod
    def volumes(self) -> tuple[Tokens, ...]:
        """The texts of the library, whose training splits hold its chunks, numbered on from one to the next."""

    @property
    @abstractmethod
    def chunk(self) -> int:
        """Tokens in a chunk."""

    @property
    @abstractmethod
    def most(self) -> int:
        """How many neighbours are stored of each chunk."""
