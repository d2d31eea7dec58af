"""The recipes of a library: the library itself, and what it has near the chunks of a text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from etude.core.errors import UsageError
from etude.core.files import read_json
from etude.core.recipe import Estimate, Recipe, recipes_in
from etude.core.run import Run
from etude.core.spec import cosmetic
from etude.evals.recipes import ROOM, Split
from etude.retrieval.duplicates import check_alike
from etude.retrieval.embedders.base import Embedder
from etude.retrieval.embedders.tfidf import Tfidf
from etude.retrieval.same_tokens import may_share, told_apart
from etude.retrieval.shown import KEPT
from etude.text.recipes import NeighboursRecipe, Tokens
from etude.text.splits import SPLITS
from etude.text.tokenizers.bpe import BytePair


@dataclass(frozen=True)
class Library(Recipe, kind="library", does="etude.retrieval.work:library"):
    """Chunks of a text, each with the key by which it is found. The training split alone is embedded; a chunk ends with
    its document.

    Attributes:
        data: the text, in whole documents.
        chunk: tokens in a chunk (64 in Borgeaud et al. 2021).
        embedder: what makes a key of a chunk.
        extends: a library that this text is added to, which is not embedded again. The embedder stays as it was fitted
            for that one, and the text is in the same tokens.
        through: what embeds: this process, or the Ray cluster at `$RAY_ADDRESS` (none: one of this machine's own),
            whose machines share the folder of runs.
    """

    data: Tokens = field(default_factory=Tokens)
    chunk: int = 64
    embedder: Embedder = field(default_factory=Tfidf)
    extends: Library | None = None
    through: Literal["here", "ray"] = cosmetic("here")

    def check(self) -> None:
        if self.chunk < 1:
            raise UsageError(f"chunk = {self.chunk} is too small: give 1 or more tokens; 64 is usual")
        if self.data.openings:
            raise UsageError(f"openings = {self.data.openings} are no whole documents: set --data.openings 0")
        self.embedder.check_fits(self.data, self.chunk)
        if self.extends is not None:
            self._check_extends(self.extends)

    def _check_extends(self, other: Library) -> None:
        """Raise UsageError where this text cannot be added to another library."""
        if other.chunk != self.chunk:
            raise UsageError(
                f"chunk = {self.chunk} and the library that is extended has {other.chunk}: set --chunk {other.chunk}"
            )
        if type(other.embedder) is not type(self.embedder) or told_apart(other.embedder, self.embedder):
            raise UsageError(
                f"the library that is extended has an embedder {other.embedder.name} of its own choices: give"
                " --embedder the same"
            )
        if not may_share(other.data, self.data):
            raise UsageError("the library that is extended has other tokens: set --data.like to its data")
        if self.data in other.volumes:
            raise UsageError("this text is in the library that is extended: give --data another one")

    @property
    def lineage(self) -> tuple[Library, ...]:
        """This library behind those that it extends, the first of them first."""
        return (*(self.extends.lineage if self.extends is not None else ()), self)

    @property
    def volumes(self) -> tuple[Tokens, ...]:
        """The texts whose chunks it has, in the order in which they are numbered."""
        return tuple(library.data for library in self.lineage)

    @property
    def needs(self) -> tuple[Recipe, ...]:
        """What has to be at hand to search it: its volumes, their texts, and what its embedder is made of."""
        return tuple(dict.fromkeys([*self.lineage, *self.volumes, *recipes_in(self.embedder)]))

    def estimate(self) -> Estimate:
        """Return the room on disk, from above where documents are much longer than a chunk: byte-pair encoding makes
        a token of two bytes or more."""
        size = self.data.corpus.size("train") * (0.5 if isinstance(self.data.tokenizer, BytePair) else 1.0)
        return Estimate(disk_bytes=round(size / self.chunk) * 4 * self.embedder.expected_dimension())


@dataclass(frozen=True)
class Neighbours(NeighboursRecipe, kind="neighbours", does="etude.retrieval.neighbours_work:neighbours"):
    """Find the nearest chunks of a library for every complete chunk of a text (Borgeaud et al. 2021, sections 2.1 and
    2.3). A chunk of the library's own text never finds one of its own document, and nothing finds a document that is
    nearly one of the text's validation or test split. Killed, it goes on where it stopped.

    Documents that the library holds twice, or shares with another text's training split, are not looked for.

    Attributes:
        of: the library.
        data: the text whose chunks are looked for; none takes the library's own, of one that extends the last added.
        k: how many are kept of each.
        splits: which splits of the text.
        index: `exact` compares with every key; `ivf` with those in lists nearby (faiss); `lance` does so with lists on
            disk, for keys that memory has no room for; `by-size` takes `ivf` from 262,144 keys on.
        recall: share of the ten nearest that lists have to find. On a sample it is measured, and met.
        near_duplicates: Jaccard similarity of token 13-grams from which two documents are nearly the same; 0 keeps
            every document.
        show: how many chunks are printed beside their neighbours, of the 64 that are kept in words.
        through: what searches: this process, or the Ray cluster at `$RAY_ADDRESS`, as for a library.
    """

    version: ClassVar[int] = 2  # 2: lists are looked through in the order of their distance and spread

    of: Library
    data: Tokens | None = None
    k: int = 10
    splits: tuple[Split, ...] = SPLITS
    index: Literal["by-size", "exact", "ivf", "lance"] = "by-size"
    recall: float = 0.98
    near_duplicates: float = 0.8
    show: int = cosmetic(0)
    through: Literal["here", "ray"] = cosmetic("here")

    def check(self) -> None:
        if self.k < 1:
            raise UsageError(f"k = {self.k} neighbours are none: give 1 or more")
        if not self.splits or len(set(self.splits)) < len(self.splits):
            raise UsageError(
                f"splits = {', '.join(self.splits) or 'none'}: give one or more of {', '.join(SPLITS)}, once"
            )
        if not 0 < self.recall <= 1:
            raise UsageError(f"recall = {self.recall:g}: give a share of the nearest, above 0 and at most 1")
        if self.near_duplicates:
            check_alike(self.near_duplicates)
        if not 0 <= self.show <= KEPT:
            raise UsageError(f"show = {self.show}: {KEPT} chunks are kept in words, so give 0 to {KEPT}")
        if self.text.openings:
            raise UsageError(f"openings = {self.text.openings} are no whole documents: set --data.openings 0")
        if not may_share(self.of.data, self.text):
            raise UsageError("the text has other tokens than the library: set --data.like to the library's data")

    @property
    def text(self) -> Tokens:
        return self.of.data if self.data is None else self.data

    @property
    def volumes(self) -> tuple[Tokens, ...]:
        return self.of.volumes

    @property
    def chunk(self) -> int:
        return self.of.chunk

    @property
    def most(self) -> int:
        return self.k

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return dict.fromkeys([*self.of.needs, self.text])

    def estimate(self) -> Estimate:
        """Return the room on disk, from above where documents are much longer than a chunk, twice: blocks stand beside
        the tables until these are whole."""
        size = sum(self.text.corpus.size(split) for split in self.splits)
        size = size * 0.5 if isinstance(self.text.tokenizer, BytePair) else size
        return Estimate(disk_bytes=ROOM + round(size / self.chunk) * self.k * 24)

    def in_words(self, run: Run) -> Iterable[str]:
        from etude.retrieval.shown import EXAMPLES, lines

        return lines(read_json(run.file(EXAMPLES)), self.show)
