"""Recipes of evaluation: scores on a split, what they have to beat, what a model's heads do, and whether the parts are
PyTorch's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.core.spec import cosmetic
from etude.models.recipes import ModelRecipe
from etude.models.sampling import Sampling
from etude.text.recipes import Tokens


@dataclass(frozen=True)
class Baselines(Recipe, kind="baselines", does="etude.evals.work:baselines"):
    """Score the uniform, unigram and bigram models of a corpus on the windows that a model is scored on.

    Attributes:
        data: the corpus and its tokens.
        context: positions in a window, as the model has it.
        evaluate_tokens: tokens of the validation split to read; 0 all of it.
    """

    data: Tokens = field(default_factory=Tokens)
    context: int = 128
    evaluate_tokens: int = 65536

    def check(self) -> None:
        for name, least in {"context": 1, "evaluate_tokens": 0}.items():
            if getattr(self, name) < least:
                raise UsageError(f"{name} = {getattr(self, name)} is too small: it is {least} or more")


@dataclass(frozen=True)
class Heads(Recipe, kind="heads", does="etude.evals.work:heads"):
    """Score each head of a model for previous-token and induction attention on repeated random sequences.

    It runs on the CPU, as every instrument does: only a training has a device.

    Attributes:
        of: the model.
        sequences: how many random sequences.
        seed: of the sequences.
    """

    of: ModelRecipe
    sequences: int = 128
    seed: int = 0

    def check(self) -> None:
        if self.sequences < 1:
            raise UsageError(f"sequences = {self.sequences} is too small: it is 1 or more")


Split = Literal["train", "valid", "test"]


def _check_tokens(tokens: int) -> None:
    if tokens < 0:
        raise UsageError(f"tokens = {tokens} is too small: it is 0 for all, or more")


@dataclass(frozen=True)
class Score(Recipe, kind="score", does="etude.evals.splits:score_split"):
    """Score a trained model on a split, by its own objective: the test split above all, which no training reads.

    Attributes:
        of: the model.
        split: what it is scored on.
        tokens: positions to read; 0 all of them.
    """

    of: ModelRecipe
    split: Split = "test"
    tokens: int = 0

    def check(self) -> None:
        _check_tokens(self.tokens)

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.of, self.of.text)


@dataclass(frozen=True)
class Floor(Recipe, kind="floor", does="etude.evals.splits:floor"):
    """Score what any model has to beat, on the very samples that `Score` reads: of classes, chance and the most
    frequent class of the training split; of tokens, the uniform, unigram and bigram models of the training split. Where
    tokens are hidden, the bigram sees the token to the left as the model does, and is the unigram where that is hidden
    too.

    Attributes:
        of: the model, of which the objective, the context and the text matter, and no weight.
        split: what is scored.
        tokens: positions to read; 0 all of them.
    """

    of: ModelRecipe
    split: Split = "test"
    tokens: int = 0

    def check(self) -> None:
        _check_tokens(self.tokens)

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.of.text,)


@dataclass(frozen=True)
class Parity(Recipe, kind="parity", does="etude.evals.parity:parity"):
    """Compare each step from attention to whole models with PyTorch's own module on the same random weights.

    Attributes:
        width: of the residual stream.
        heads: of what has several.
        layers: of whole models.
        length: tokens of a text.
        batch: texts, each shorter than the one before, so that there is padding.
        seed: of weights and texts.
    """

    width: int = 32
    heads: int = 4
    layers: int = 2
    length: int = 12
    batch: int = 3
    seed: int = 0

    def check(self) -> None:
        for name in ("width", "heads", "layers", "batch"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} = {getattr(self, name)} is too small: it is 1 or more")
        if self.width % (2 * self.heads):
            raise UsageError(f"width = {self.width} is not divisible by twice heads = {self.heads}: choose a multiple")
        if self.length < self.batch + 1:
            raise UsageError(f"length = {self.length} is too short for {self.batch} texts, each shorter by one token")


@dataclass(frozen=True)
class Translations(Recipe, kind="translations", does="etude.evals.translating:translations"):
    """Translate a split with an encoder-decoder and score the texts with BLEU, as sacrebleu counts it (extra
    `translation`). Sources that are longer than the context are cut, and counted.

    Attributes:
        of: the model, trained on pairs of texts.
        split: what is translated.
        sampling: how it is written: `--sampling.temperature 0` takes the likeliest token always, with
            `--sampling.beams 4` beam search.
        sentences: how many, spread evenly over the split; 0 is all.
        batch: sentences that are written at once.
    """

    of: ModelRecipe
    split: Split = "test"
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0.0))
    sentences: int = 0
    batch: int = cosmetic(32)

    def check(self) -> None:
        if self.sentences < 0 or self.batch < 1:
            raise UsageError(
                f"sentences = {self.sentences}, batch = {self.batch}: give 0 for all or a number, and a batch of 1 or"
                " more"
            )

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.of, self.of.text)
