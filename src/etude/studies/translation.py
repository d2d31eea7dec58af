"""Translation: the encoder-decoder of 2017 learns to put English captions into German."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.core.spec import AUTO, cosmetic
from etude.evals.recipes import Parity, Score, Translations
from etude.interp.recipes import Patterns
from etude.models.architectures.encoder_decoder import EncoderDecoder
from etude.models.sampling import Sampling
from etude.report.blocks import Report
from etude.studies.base import Study
from etude.text.corpora.base import Corpus
from etude.text.corpora.multi30k import Multi30k
from etude.text.recipes import Tokens
from etude.text.tokenizers.bpe import BytePair
from etude.train.objectives.sequence_to_sequence import SequenceToSequence
from etude.train.optimisers.adamw import AdamW
from etude.train.recipes import At, Train
from etude.train.schedule import Schedule


@dataclass(frozen=True)
class Translation(Study):
    """How well does an encoder-decoder that learned from some thousand pairs translate, and where does it look?

    Attributes:
        pairs: the texts: `--pairs.path FOLDER` of Multi30k, or `hub`.
        vocabulary: tokens of the one tokenizer that both languages share.
        model: the encoder-decoder.
        steps: of the training.
        batch: pairs in a step.
        peak: highest learning rate.
        warmup: steps of warm-up.
        smoothing: of the labels.
        average: share that the running mean of the weights keeps at each step; 0 takes the last weights.
        evaluate_every: steps between evaluations on the validation split.
        beams: of beam search, beside the greedy one.
        length_penalty: of beam search.
        sentences: of the test split that are translated, spread evenly; 0 is all.
        untrained: how many the untrained model translates, which writes to its longest always.
        shown: translations that are printed.
        drawn: source and translation whose cross-attention is drawn, in turn: two texts, or four, ...
        precision: of the training; `auto` is bf16 where the machine multiplies it natively.
        seed: of weights, order and dropout.
        device: where it trains.
    """

    pairs: Corpus = field(default_factory=Multi30k)
    vocabulary: int = 4000
    model: EncoderDecoder = field(
        default_factory=lambda: EncoderDecoder(
            layers=2,
            width=128,
            heads=4,
            feedforward=512,
            context=36,
            positions="sinusoidal",
            scaled_embeddings=True,
            tied=True,
            dropout=0.1,
        )
    )
    steps: int = 2000
    batch: int = 64
    peak: float = 2e-3
    warmup: int = 200
    smoothing: float = 0.1
    average: float = 0.0
    evaluate_every: int = 250
    beams: int = 4
    length_penalty: float = 0.6
    sentences: int = 0
    untrained: int = 50
    shown: int = 8
    drawn: tuple[str, ...] = (
        "A man in a blue shirt is cleaning a window.",
        "Ein Mann in einem blauen Hemd putzt ein Fenster.",
        "Two young girls are playing with a red ball.",
        "Zwei junge Mädchen spielen mit einem roten Ball.",
    )
    precision: Literal["fp32", "bf16", "auto"] = "auto"
    seed: int = 0
    device: str = cosmetic("cpu")

    @classmethod
    def presets(cls) -> dict[str, Self]:
        quick = cls()
        full = replace(
            quick,
            vocabulary=8000,
            model=replace(quick.model, layers=3, width=256, heads=8, feedforward=1024, dropout=0.3),
            steps=9000,
            warmup=2000,
            peak=1e-3,
        )
        return {"quick": quick, "full": full}

    def check(self) -> None:
        if len(self.pairs.sides) < 2:
            raise UsageError(
                f"pairs = {self.pairs.name} has no pairs of texts: choose a corpus with sides, such as multi30k"
            )
        if len(self.drawn) % 2 or not all(text.strip() for text in self.drawn):
            raise UsageError("drawn has a source without its translation: give both, in turn, and no empty text")
        if self.beams < 2 or self.shown < 0 or self.untrained < 2:
            raise UsageError(
                f"beams = {self.beams}, shown = {self.shown}, untrained = {self.untrained}: give at least 2 beams, 0 or"
                " more to be shown, and at least 2 sentences for the untrained model"
            )

    def resolve(self) -> Self:
        if self.pairs.sha256 == AUTO and getattr(self.pairs, "path", "here") == "":
            raise UsageError(
                "translation reads pairs that do not come with Etude: give --pairs.path FOLDER with the files of"
                f" {self.pairs.name}, or --pairs.path hub to fetch them"
            )
        return super().resolve()

    def settle(self) -> Self:
        return replace(self, precision=self.train.precision)

    # What is wanted

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        patterns = [self.patterns(source, text) for source, text in self.texts()]
        scored = [self.greedy, self.beam, self.before, Score(self.train)]
        return dict.fromkeys([self.train.data, self.train, At(self.train, 0), Parity(), *scored, *patterns])

    @property
    def train(self) -> Train:
        """The training."""
        return Train(
            data=Tokens(self.pairs, BytePair(vocabulary=self.vocabulary)),
            model=self.model,
            objective=SequenceToSequence(smoothing=self.smoothing),
            optimiser=AdamW(beta2=0.98, weight_decay=0.01),
            schedule=Schedule(peak=self.peak, warmup=min(self.warmup, self.steps), floor=0.05),
            batch=self.batch,
            steps=self.steps,
            average=self.average,
            precision=self.precision,
            compiled="no",
            recompute="no",
            evaluate_every=min(self.evaluate_every, self.steps),
            evaluate_tokens=0,
            seed=self.seed,
            device=self.device,
        ).settle()

    @property
    def greedy(self) -> Translations:
        """The test split, the likeliest token always."""
        return Translations(self.train, sentences=self.sentences)

    @property
    def beam(self) -> Translations:
        """The test split by beam search."""
        sampling = Sampling(temperature=0.0, beams=self.beams, length_penalty=self.length_penalty)
        return Translations(self.train, sampling=sampling, sentences=self.sentences)

    @property
    def before(self) -> Translations:
        """Some of the test split by the model before its training."""
        return Translations(At(self.train, 0), sentences=self.untrained)

    def texts(self) -> list[tuple[str, str]]:
        """Return the pairs whose cross-attention is drawn."""
        return list(zip(self.drawn[::2], self.drawn[1::2], strict=True))

    def patterns(self, source: str, text: str) -> Patterns:
        """Return what the heads attend to while a text is written."""
        return Patterns(self.train, text, source)

    # What came of it

    def answer(self, done: Mapping[Recipe, Run]) -> dict[str, Any]:
        from etude.studies.sections.translation_page import numbers

        return numbers(self, done)

    def tell(self, done: Mapping[Recipe, Run]) -> Report:
        from etude.studies.sections.translation_page import page

        return page(self, done)
