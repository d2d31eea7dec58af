"""What a training text holds of an evaluation text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, cast

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.core.spec import AUTO, cosmetic
from etude.evals.recipes import BitsPerByte, Split
from etude.models.recipes import ModelRecipe, OnText
from etude.report.blocks import Report
from etude.retrieval.recipes import FileLosses, Overlap
from etude.studies.base import Study
from etude.text.corpora.base import Corpus
from etude.text.corpora.files import Files
from etude.text.recipes import Tokens
from etude.text.tokenizers.base import TokenizerSpec
from etude.text.tokenizers.bpe import BytePair


@dataclass(frozen=True)
class Leakage(Study):
    """How much of an evaluation text stands word for word in a training text, and what does that make of a model's
    score?

    The training split is searched whole, position by position, so that it does not matter where a copy begins.

    Attributes:
        eval: the evaluation text: a file, or a folder of files, as the corpus `files` reads them, every text of it
            undivided. It does not enter the fingerprint: the content does. None takes a corpus' split.
        against: the training text; none is what the model learned from.
        of: a model, whose loss is measured on each chunk, in its own tokenizer; none measures shares alone.
        corpus: the evaluation text as a corpus, where no file is given; none is `against` itself.
        split: of that corpus.
        tokenizer: made of `against`, where there is no model.
        chunk: tokens in a chunk.
        least: tokens of the shortest run that counts.
        threshold: a chunk counts as leaked from this share of its tokens on.
        alphas: shares of the curve, rising: it is of the chunks that share no more.
        stride: how far each window of the model begins behind the one before it; 0 is half the context, at most 1024.
        k: neighbours that a model which retrieves is given, of those that it was trained with; 0 gives none.
        shown: leaked chunks that the page prints beside what they were found in.
        text_field: key or column of the text, where the files are tables.
        sha256: identity of the evaluation file's content. Left at auto, it is taken from what is there.
    """

    eval: str = cosmetic("")
    against: Corpus | None = None
    of: ModelRecipe | None = None
    corpus: Corpus | None = None
    split: Split = "test"
    tokenizer: TokenizerSpec = field(default_factory=BytePair)
    chunk: int = 64
    least: int = 8
    threshold: float = 0.5
    alphas: tuple[float, ...] = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)
    stride: int = 0
    k: int = 0
    shown: int = 20
    text_field: str = "text"
    sha256: str = AUTO

    def check(self) -> None:
        if self.against is None and self.of is None:
            raise UsageError(
                "there is nothing to search: give the training text with --against CORPUS, or a model with --of RUN"
            )
        if not self.alphas or self.alphas[-1] != 1 or list(self.alphas) != sorted({*self.alphas}) or self.alphas[0] < 0:
            raise UsageError(
                f"alphas = {', '.join(f'{alpha:g}' for alpha in self.alphas)}: give rising shares from 0 on, the last 1"
            )
        if self.k and (self.of is None or self.corpus or self.against or self._file):
            raise UsageError(
                f"k = {self.k} neighbours are those of the model's own text: leave --eval, --corpus and --against out"
            )
        _ = self.overlap, self.losses  # which check what is handed on

    def settle(self) -> Self:
        if self.sha256 != AUTO:
            return self
        return replace(self, sha256=self._file.settle().sha256 if self._file is not None else "")

    @property
    def _file(self) -> Files | None:
        """The evaluation text, where it is no corpus' split."""
        if not self.eval and self.sha256 in (AUTO, ""):
            return None
        if self.sha256 == AUTO and not Path(self.eval).expanduser().exists():
            raise UsageError(f"no file or folder {self.eval!r}: give the evaluation text with --eval FILE")
        return Files(path=self.eval, text_field=self.text_field, sha256=self.sha256)

    @property
    def data(self) -> Tokens:
        """The training text, in the tokens that all is read in."""
        if self.of is None:
            return Tokens(cast(Corpus, self.against), self.tokenizer)
        return self.of.text if self.against is None else OnText(self.of, self.against).text

    @property
    def overlap(self) -> Overlap:
        """The search."""
        data, tested = self.data, None
        if self.corpus is not None:
            tested = Tokens(self.corpus, data.tokenizer, like=data if self.of is None else self.of.text)
        return Overlap(data, tested, self.split, self._file, self.chunk, self.least, self.threshold, self.shown)

    @property
    def losses(self) -> BitsPerByte | FileLosses | None:
        """The model's loss on each token of the evaluation text, where there is a model."""
        if self.of is None:
            return None
        if self._file is not None:
            return FileLosses(self.of, self.overlap, self.stride)
        corpus = self.corpus or self.against
        return BitsPerByte(OnText(self.of, corpus) if corpus else self.of, self.split, self.stride, k=self.k)

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        losses = self.losses
        return (self.data, self.overlap, *([] if losses is None else [losses.of, losses]))

    def answer(self, done: Mapping[Recipe, Run]) -> dict[str, Any]:
        from etude.studies.sections.leakage_numbers import numbers

        return numbers(self, done)

    def tell(self, done: Mapping[Recipe, Run]) -> Report:
        from etude.studies.sections.leakage_page import page

        return page(self, done)
