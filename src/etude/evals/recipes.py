"""Recipes of evaluation: scores on a split, what they have to beat, what a model's heads do and what it learns within
its context, activations recorded and probed, and whether the parts are PyTorch's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, Self

from etude.core.errors import UsageError
from etude.core.recipe import Estimate, Recipe
from etude.core.run import Run
from etude.core.spec import cosmetic
from etude.evals import judge_recipes as judge_recipes  # kinds of recipe are found through this file
from etude.evals.sites import is_glob, require_activations, width_of
from etude.evals.whole_documents import check_given, check_slides, trained_with
from etude.models.recipes import ModelRecipe
from etude.models.sampling import Sampling
from etude.text.recipes import NeighboursRecipe, Tokens


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


Drawn = Literal["vocabulary", "text"]
"""What random sequences are made of: any token of the vocabulary, or those that the model's training text has."""


@dataclass(frozen=True)
class Heads(Recipe, kind="heads", does="etude.evals.work:heads"):
    """Score each head of a model for previous-token, duplicate-token and induction attention on repeated random
    sequences, beside what looking back a fixed distance would come to.

    It runs on the CPU, as every instrument does: only a training has a device.

    Attributes:
        of: the model.
        sequences: how many random sequences.
        drawn: tokens that they are made of: any of the `vocabulary`, or those that the training `text` of the model
            has, since on tokens that it never saw no head can do what it learned.
        seed: of the sequences.
    """

    version: ClassVar[int] = 2  # 2: duplicate and off-period attention

    of: ModelRecipe
    sequences: int = 128
    drawn: Drawn = "vocabulary"
    seed: int = 0

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.of, self.of.text) if self.drawn == "text" else (self.of,)

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
        return dict.fromkeys((self.of, self.of.text, *self.of.needs))


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
        return dict.fromkeys((self.of.text, *self.of.needs))


@dataclass(frozen=True)
class InContext(Recipe, kind="in-context", does="etude.evals.in_context:in_context"):
    """Measure a decoder's loss at each position of its windows, and the in-context learning score: the loss late in the
    context less that early in it (Olsson et al. 2022, "Key Concepts").

    It runs on the CPU, as every instrument does: only a training has a device.

    Attributes:
        of: the model, trained on next tokens.
        split: what it reads.
        tokens: positions to read; 0 all of them.
        early: tokens that have been read early in the context; 0 is a tenth of it.
        late: tokens that have been read late in it; 0 is all of it.
    """

    of: ModelRecipe
    split: Split = "valid"
    tokens: int = 65536
    early: int = 0
    late: int = 0

    def check(self) -> None:
        _check_tokens(self.tokens)
        if min(self.early, self.late) < 0 or (self.late and self.early >= self.late):
            raise UsageError(
                f"early = {self.early}, late = {self.late}: give 0 for the default, or early a smaller number than late"
            )
        objective = getattr(getattr(self.of, "of", self.of), "objective", None)
        if objective is not None and objective.name != "next-token":
            raise UsageError(
                f"in-context learning is measured on next-token prediction, and this model learns {objective.name}:"
                " choose one trained with --objective next-token"
            )
        if getattr(objective, "apart", False):
            raise UsageError(
                "this model keeps documents apart, so a position does not tell how much was read: choose one trained"
                " with --no-objective.apart"
            )

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.of, self.of.text)

    def estimate(self) -> Estimate:
        return Estimate(disk_bytes=ROOM + 8 * self.tokens)


@dataclass(frozen=True)
class Breakdown(Recipe, kind="breakdown", does="etude.evals.breakdown:breakdown"):
    """Measure a decoder's loss on kinds of tokens: words, numbers and marks; common and rare ones; early and late in
    the context; foretold by what was read there, or not.

    Attributes:
        of: the model, a decoder.
        split: what it reads.
        tokens: positions to read; 0 all of them.
    """

    of: ModelRecipe
    split: Split = "valid"
    tokens: int = 65536

    def check(self) -> None:
        _check_tokens(self.tokens)

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.of, self.of.text)


@dataclass(frozen=True)
class BitsPerByte(Recipe, kind="bits-per-byte", does="etude.evals.sliding_work:bits_per_byte"):
    """Score a decoder on whole documents by a sliding window, in bits per byte of UTF-8, with retrieval or without. The
    loss of every token is kept.

    It runs on the CPU, as every instrument does: only a training has a device.

    Attributes:
        of: the model. To score it on another text, name it with `on-text`.
        split: what is scored, all of it.
        stride: how far each window begins behind the one before it; 0 is half the context, at most 1024.
        neighbours: of the text's chunks; none takes those that the model was trained with.
        k: how many of them the model is given; 0 gives it none.
    """

    of: ModelRecipe
    split: Split = "test"
    stride: int = 0
    neighbours: NeighboursRecipe | None = None
    k: int = 0

    def check(self) -> None:
        check_slides(self.of, self.stride)
        check_given(self.of, self.given, self.k, self.stride)

    @property
    def given(self) -> NeighboursRecipe | None:
        """The neighbours that the model is given: those named, or those that it was trained with; None for k = 0."""
        return (self.neighbours or trained_with(self.of)) if self.k else None

    def settle(self) -> Self:
        return self if self.given == self.neighbours else replace(self, neighbours=self.given)

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        near = self.given
        return dict.fromkeys((self.of, self.of.text, *(() if near is None else (near, *near.volumes))))

    def estimate(self) -> Estimate:
        return Estimate(disk_bytes=ROOM + 4 * self.of.text.corpus.size(self.split))


ROOM = 1 << 20
"""Bytes for what a run holds besides tensors whose size is known beforehand."""


@dataclass(frozen=True)
class Record(Recipe, kind="record", does="etude.evals.recording:recording"):
    """Record activations on the training split, once for every instrument that is fitted to them. A recording that was
    killed goes on where it stopped.

    It runs on the CPU, as every instrument does: only a training has a device.

    Attributes:
        of: the model.
        site: the activation, or a glob of several of one width, as in `L*.resid.post`.
        tokens: how many positions, spread over the split; 0 all of it.
    """

    version: ClassVar[int] = 2  # 2: tensors have the names of their sites, and rows.safetensors says what each row is

    of: ModelRecipe
    site: str
    tokens: int = 32768

    def check(self) -> None:
        _check_tokens(self.tokens)
        require_activations(self.of, self.site)

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.of, self.of.text)

    def estimate(self) -> Estimate:
        row = 4 * width_of(self.of, self.site) + 12  # and its token, window and position
        return Estimate(disk_bytes=ROOM + self.tokens * row)


Target = Literal["token", "previous", "next", "position", "word-start"]


@dataclass(frozen=True)
class Probe(Recipe, kind="probe", does="etude.evals.probes:probed"):
    """Fit a linear probe to a site: what of the text can be read from its activations by a linear map. It is judged on
    windows that it was not fitted to, beside the most frequent class, shuffled labels, and labels that say nothing but
    which token stands there (Hewitt and Liang 2019, section 2).

    It runs on the CPU, as every instrument does: only a training has a device.

    Attributes:
        of: the model.
        site: the activation.
        target: what is read: the `token` at the position, the `previous` or the `next` one, its `position` in the
            window (a number), or whether it is a `word-start`, with a space before its letters.
        classes: of tokens, so many of the most frequent ones are told apart; rows of others are left out.
        tokens: positions of the training split that are recorded, of which a fifth is held out; 0 all of it.
        seed: of control and shuffled labels.
    """

    of: ModelRecipe
    site: str = "L0.resid.post"
    target: Target = "previous"
    classes: int = 20
    tokens: int = 32768
    seed: int = 0

    def check(self) -> None:
        if is_glob(self.site):
            raise UsageError(f"{self.site!r} can be several sites: a probe reads one, such as L0.resid.post")
        require_activations(self.of, self.site)
        if self.classes < 2:
            raise UsageError(f"classes = {self.classes} leaves nothing to tell apart: it is 2 or more")
        _check_tokens(self.tokens)

    @property
    def recording(self) -> Record:
        """The recording that is probed."""
        return Record(self.of, self.site, self.tokens)

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.of.text, self.recording)


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
