"""The recipes of retrieval: of what is done with a library, and those of the library beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from etude.core.errors import UsageError
from etude.core.recipe import Estimate, Recipe
from etude.core.run import Run
from etude.core.spec import cosmetic
from etude.evals.recipes import ROOM, BitsPerByte, Split
from etude.evals.sites import shape_of
from etude.evals.whole_documents import check_slides, trained_with
from etude.models.architectures.retro import Retro
from etude.models.recipes import ModelRecipe
from etude.models.sampling import Sampling
from etude.retrieval.library_recipes import Library, Neighbours
from etude.retrieval.same_tokens import may_share
from etude.text.corpora.facts import Facts
from etude.text.corpora.files import Files
from etude.text.recipes import Tokens
from etude.text.splits import SPLITS


@dataclass(frozen=True)
class Overlap(Recipe, kind="overlap", does="etude.retrieval.leakage_work:overlap"):
    """Find the longest run of tokens of each chunk of an evaluation text that stands anywhere in a training text: what
    of the one leaked into the other (Borgeaud et al. 2021, section 2.6).

    Attributes:
        against: the training text, whose training split is searched, whole and unfiltered. Its tokenizer reads both.
        tested: the evaluation text; none is `against` itself.
        split: of it that is looked at.
        file: an evaluation text of one's own instead, all of it, in the tokenizer of `against`.
        chunk: tokens in a chunk; the last of a document is shorter.
        least: tokens of the shortest run that counts.
        threshold: a chunk counts as leaked from this share of its tokens on.
        shown: how many of the chunks that share most are kept in words.
    """

    version: ClassVar[int] = 2  # 2: mask.json

    against: Tokens
    tested: Tokens | None = None
    split: Split = "test"
    file: Files | None = None
    chunk: int = 64
    least: int = 8
    threshold: float = 0.5
    shown: int = 20

    def check(self) -> None:
        if not 1 <= self.least <= self.chunk:
            raise UsageError(f"least = {self.least} tokens of a chunk of {self.chunk}: give 1 to {self.chunk}")
        if not 0 < self.threshold <= 1:
            raise UsageError(f"threshold = {self.threshold:g}: give a share of a chunk, above 0 and at most 1")
        if self.shown < 0:
            raise UsageError(f"shown = {self.shown}: give 0 for none, or a number")
        if self.file is not None and self.tested is not None:
            raise UsageError("the evaluation text is a file or a split of a corpus: give one of them")
        if self.file is None and self.tested in (None, self.against) and self.split == "train":
            raise UsageError("the train split is what is searched: choose --split valid or test")
        if self.against.openings or (self.tested is not None and self.tested.openings):
            raise UsageError("chunks are of whole documents, and these are openings: set openings to 0")

    def estimate(self) -> Estimate:
        """Return the room for the file's tokens, where there is one: of whole documents at most four bytes a byte."""
        size = sum(self.file.size(split) for split in SPLITS) if self.file is not None else 0
        return Estimate(disk_bytes=ROOM + 4 * size)


@dataclass(frozen=True)
class FileLosses(Recipe, kind="file-losses", does="etude.retrieval.leakage_work:file_losses"):
    """Measure a model's loss on every token of an evaluation text of one's own, as `bits-per-byte` does on a split, and
    without neighbours.

    It runs on the CPU, as every instrument does: only a training has a device.

    Attributes:
        of: the model, which reads in the tokenizer of the overlap.
        overlap: the search, whose run has the text.
        stride: how far each window begins behind the one before it; 0 is half the context, at most 1024.
    """

    of: ModelRecipe
    overlap: Overlap
    stride: int = 0

    def check(self) -> None:
        check_slides(self.of, self.stride)
        if self.overlap.file is None:
            raise UsageError("the overlap is of a corpus' split: score the model on it with bits-per-byte")
        if not may_share(self.overlap.against, self.of.text):
            raise UsageError("the overlap is in other tokens than the model's: set --overlap.against.like to its text")


@dataclass(frozen=True)
class Datastore(Recipe, kind="datastore", does="etude.retrieval.knn_datastore:datastore"):
    """Keep what a model's unembedding reads at positions of its training text, and the token that followed each: what a
    kNN-LM remembers (Khandelwal et al. 2020). Killed, it goes on where it stopped.

    It runs on the CPU, as every instrument does: only a training has a device.

    Attributes:
        of: the model.
        stride: how far each window begins behind the one before it; 0 is half the context, at most 1024.
        positions: how many at most, in windows spread evenly over the training split. Each takes the model's width in
            numbers, and four bytes.
        dtype: of the numbers on disk.
    """

    of: ModelRecipe
    stride: int = 0
    positions: int = 131072
    dtype: Literal["fp16", "fp32"] = "fp16"

    def check(self) -> None:
        check_slides(self.of, self.stride)
        if self.positions < 1:
            raise UsageError(f"positions = {self.positions} is too small: it is 1 or more; 131072 is usual")

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.of, self.of.text)

    def estimate(self) -> Estimate:
        shape = shape_of(self.of)
        each = (2 if self.dtype == "fp16" else 4) * (shape.width if shape else 0) + 4
        return Estimate(disk_bytes=ROOM + each * self.positions)


@dataclass(frozen=True)
class KnnLm(Recipe, kind="knn-lm", does="etude.retrieval.knn_work:knn_lm"):
    """Score a model on whole documents, as `bits-per-byte` does, where a share of each prediction is what followed the
    positions of its training text at which it read most alike (Khandelwal et al. 2020); and the model alone beside it.
    Share and temperature are chosen on the validation split.

    It runs on the CPU, as every instrument does: only a training has a device.

    Attributes:
        of: the model.
        split: what is scored. On the training split every position would find itself.
        stride: how far each window begins behind the one before it; 0 is half the context, at most 1024.
        k: nearest positions that are asked; the paper asks 1024 of 103 million.
        positions: how many are remembered, at most.
        dtype: of what is remembered.
        temperatures: that are tried: what squared distances are divided by. The paper's is 1.
        tokens: of the validation split that share and temperature are chosen on; 0 all of it.
    """

    of: ModelRecipe
    split: Literal["valid", "test"] = "test"
    stride: int = 0
    k: int = 64
    positions: int = 131072
    dtype: Literal["fp16", "fp32"] = "fp16"
    temperatures: tuple[float, ...] = (1.0, 3.0, 10.0, 30.0, 100.0)
    tokens: int = 65536

    def check(self) -> None:
        self.datastore.check()
        if not 1 <= self.k <= self.positions:
            raise UsageError(f"k = {self.k} nearest of {self.positions} positions: choose 1 to {self.positions}")
        if not self.temperatures or min(self.temperatures) <= 0:
            raise UsageError(f"temperatures = {self.temperatures}: give one or more, above 0")
        if self.tokens < 0:
            raise UsageError(f"tokens = {self.tokens} is too small: it is 0 for all, or more")

    @property
    def datastore(self) -> Datastore:
        """What is remembered."""
        return Datastore(self.of, self.stride, self.positions, self.dtype)

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.of, self.of.text, self.datastore)


@dataclass(frozen=True)
class Answers(Recipe, kind="answers", does="etude.retrieval.answers:answers"):
    """Say what a model makes of planted answers alone: how many it has right, and what they cost it in bits.

    Attributes:
        of: the score of the model, on the corpus `facts`.
    """

    version: ClassVar[int] = 2  # 2: the interval of a share ends where a share does

    of: BitsPerByte

    def check(self) -> None:
        corpus = self.of.of.text.corpus
        if not isinstance(corpus, Facts):
            raise UsageError(
                f"corpus {corpus.name} has no answers that are known: score a model on --data.corpus facts"
            )

    @property
    def corpus(self) -> Facts:
        """The corpus that knows where its answers stand."""
        corpus = self.of.of.text.corpus
        assert isinstance(corpus, Facts)  # `check` saw to it
        return corpus

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.of, self.of.of.text)


@dataclass(frozen=True)
class Consult(Recipe, kind="consult", does="etude.retrieval.searching:consulted"):
    """Write texts with a model that reads a library while it writes: as soon as a chunk is complete, its neighbours are
    found, exactly, and read from its last token on. It runs on the CPU.

    Attributes:
        of: the model, a `retro`.
        library: what it looks things up in; none is the one that it was trained with.
        prompt: what it goes on from. Empty, it writes from nothing.
        texts: how many are written from it, each drawn by itself.
        k: neighbours that it reads of each chunk.
        sampling: how the next token is chosen.
        batch: texts that are written at once.
    """

    of: ModelRecipe
    library: Library | None = None
    prompt: str = ""
    texts: int = 1
    k: int = 2
    sampling: Sampling = field(default_factory=Sampling)
    batch: int = cosmetic(16)

    def check(self) -> None:
        for name in ("texts", "batch", "k"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} = {getattr(self, name)} is too small: it is 1 or more")
        shape = shape_of(self.of)
        if shape is not None and not isinstance(shape, Retro):
            raise UsageError(f"a {shape.name} reads no library: choose a model trained with --model retro")
        if shape is not None and shape.chunk != self.searched.chunk:
            chunks = f"the library's chunks have {self.searched.chunk} tokens and the model's {shape.chunk}"
            raise UsageError(f"{chunks}: give a library of its own")

    @property
    def searched(self) -> Library:
        """The library that is searched. UsageError where none is named, and the model was trained with none."""
        near = trained_with(self.of)
        if self.library is not None:
            return self.library
        if not isinstance(near, Neighbours):
            raise UsageError("the model was trained without a library: name one with --library")
        return near.of

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return dict.fromkeys((self.of, *self.searched.needs))
