"""The ladder from attention to BERT and GPT: each rung is compared with PyTorch's own module, trained, and looked into.

The first five rungs read film reviews and say whether they praise: attention with nothing around it, a single head that
knows where words stand, several heads, a block, and a whole classifier, which reads news too. The last two are language
models of the news: one fills gaps (BERT), one goes on (GPT).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.core.spec import AUTO, cosmetic
from etude.evals.recipes import Floor, Parity, Score
from etude.interp.recipes import Patterns
from etude.models.architectures.base import Architecture
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.report.blocks import Report
from etude.studies.base import Study
from etude.text.corpora.ag_news import AgNews
from etude.text.corpora.base import Corpus
from etude.text.corpora.rt_polarity import RtPolarity
from etude.text.recipes import Tokens
from etude.text.tokenizers.bpe import BytePair
from etude.train.objectives.base import Objective
from etude.train.objectives.classification import Classification
from etude.train.objectives.masked import Masked
from etude.train.objectives.next_token import NextToken
from etude.train.optimisers.adamw import AdamW
from etude.train.recipes import At, Train
from etude.train.schedule import Schedule

REVIEW = "the film is a smart , funny and moving story , but the ending is dull ."
NEWS = "Oil prices rose on Friday after the company said that it would cut its output of crude oil this year."

SPECIALS = ("mask", "first", "separator", "pad")


@dataclass(frozen=True)
class BuildUp(Study):
    """What does each part add on the way from attention to a classifier, BERT and GPT, and is each what PyTorch has?

    Attributes:
        reviews: labelled texts that the classifiers read: `--reviews.path FOLDER` of rt-polarity, or `hub`.
        news: labelled texts that the last classifier reads and the language models learn: `--news.path FOLDER` of
            AG News, or `hub`.
        vocabulary: tokens of each tokenizer, which learns from the training split.
        news_vocabulary: the same for the classifier of news, which profits from whole words: names of people and firms.
        width: of the residual stream.
        heads: of every rung from the third on.
        layers: blocks of the classifiers.
        classifier_width: width of the classifiers.
        dropout: of the classifiers, as far as the best on the validation split; BERT and GPT have `language_dropout`.
        average: share that the running mean of the classifiers' weights keeps at each step.
        steps: of each classifier, at most: it stops early, and the weights of the least validation loss are given.
        batch: texts in a step of the classifiers.
        peak: highest learning rate of the classifiers.
        evaluate_every: steps between evaluations on the validation split.
        review_tokens: tokens of a review that are read.
        news_tokens: tokens of a news item that are read.
        language_vocabulary: tokens of BERT and GPT.
        language_width: their width.
        language_layers: their blocks.
        language_steps: how many steps each takes.
        language_dropout: their dropout.
        review: the review whose attention is drawn.
        item: the news item whose attention is drawn.
        precision: of BERT and GPT; `auto` is bf16 where the machine multiplies it natively. Classifiers take fp32.
        seed: of all trainings.
        device: where all is trained.
    """

    version: ClassVar[int] = 2  # 2: classifiers read in lower case

    reviews: Corpus = field(default_factory=RtPolarity)
    news: Corpus = field(default_factory=AgNews)
    vocabulary: int = 8192
    news_vocabulary: int = 32768
    width: int = 64
    heads: int = 4
    layers: int = 1
    classifier_width: int = 128
    dropout: float = 0.5
    average: float = 0.99
    steps: int = 2000
    batch: int = 32
    peak: float = 1e-3
    evaluate_every: int = 100
    review_tokens: int = 48
    news_tokens: int = 112
    language_vocabulary: int = 4096
    language_width: int = 128
    language_layers: int = 2
    language_steps: int = 800
    language_dropout: float = 0.1
    review: str = REVIEW
    item: str = NEWS
    precision: Literal["fp32", "bf16", "auto"] = "auto"
    seed: int = 0
    device: str = cosmetic("cpu")

    @classmethod
    def presets(cls) -> dict[str, Self]:
        return {
            "quick": cls(),
            "full": cls(steps=6000, language_width=256, language_layers=4, language_steps=6000),
        }

    def check(self) -> None:
        for name, corpus in (("reviews", self.reviews), ("news", self.news)):
            if len(corpus.classes) < 2:
                raise UsageError(
                    f"{name} = {corpus.name} has no labels to learn: choose a corpus with classes, rt-polarity or"
                    " ag-news"
                )
        if self.steps < 1 or self.language_steps < 1:
            raise UsageError(f"steps = {self.steps}, language_steps = {self.language_steps}: give 1 or more of each")

    def resolve(self) -> Self:
        for name, corpus in (("reviews", self.reviews), ("news", self.news)):
            if corpus.sha256 == AUTO and getattr(corpus, "path", "here") == "":
                raise UsageError(
                    f"build-up reads {name} that do not come with Etude: give --{name}.path FOLDER with the files of"
                    f" {corpus.name}, or --{name}.path hub to fetch them"
                )
        return super().resolve()

    def settle(self) -> Self:
        return replace(self, precision=self.models["GPT"].precision)

    # What is wanted

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        models = self.models
        # So that no core waits for the longest at the end.
        asked: list[Recipe] = [*sorted(models.values(), key=lambda m: -m.estimate().flops), self.parity]
        for name, model in models.items():
            asked += [model.data, Score(model), self.untrained(name), self.floor(name), self.patterns(name)]
        return dict.fromkeys(asked)

    @property
    def parity(self) -> Parity:
        """The comparison with PyTorch's modules."""
        return Parity(seed=self.seed)

    @property
    def models(self) -> dict[str, Train]:
        """The trainings by the names of the rungs, in order. Each classifier of reviews has what the one before it has,
        and more; but the last leaves the norms out again."""
        bare = Encoder(
            layers=1,
            width=self.width,
            heads=1,
            feedforward=0,
            context=self.review_tokens,
            positions="none",
            norm="none",
            biases=False,
            dropout=self.dropout,
            classes=len(self.reviews.classes),
        )
        one = replace(bare, positions="learned", biases=True)
        several = replace(one, heads=self.heads)
        block = replace(several, feedforward=2 * self.width, norm="layer", norm_at="post")
        # A text's vector is the mean of its tokens'. Without norms these can be as long as their words matter, where
        # norms make all of one length: on the validation split the loss is 0.47 and not 0.52.
        wide = self.classifier_width
        whole = replace(block, layers=self.layers, width=wide, feedforward=2 * wide, norm="none", norm_at="pre")
        news = replace(whole, context=self.news_tokens, classes=len(self.news.classes))
        ladder: dict[str, Architecture] = {
            "attention": bare,
            "single head": one,
            "multi-head": several,
            "block": block,
            "classifier": whole,
        }
        found = {name: self._classifier(self.reviews, self.vocabulary, model) for name, model in ladder.items()}
        found["classifier of news"] = self._classifier(self.news, self.news_vocabulary, news)
        found["BERT"] = self._language_model(self._bert, Masked(samples="documents"))
        found["GPT"] = self._language_model(self._gpt, NextToken())
        return found

    def of_reviews(self) -> list[str]:
        """Return the names of the rungs that read reviews."""
        return [name for name, model in self.models.items() if model.data.corpus == self.reviews]

    def of_language(self) -> list[str]:
        """Return the names of the language models."""
        return [name for name, model in self.models.items() if not isinstance(model.objective, Classification)]

    def untrained(self, name: str) -> Score:
        """Return the scores of a rung before its training."""
        return Score(At(self.models[name], 0))

    def floor(self, name: str) -> Floor:
        """Return what a rung has to beat: one for all that read the same samples."""
        return Floor(self.models["classifier" if name in self.of_reviews() else name])

    def patterns(self, name: str) -> Patterns:
        """Return what the heads of a rung attend to."""
        return Patterns(self.models[name], self.review if name in self.of_reviews() else self.item)

    @property
    def _bert(self) -> Encoder:
        """BERT's task and head on a small encoder. BERT's own post-norm, tied embedding and learned positions take
        several times as long to learn at this size: `Parity` has them."""
        return Encoder(
            layers=self.language_layers,
            width=self.language_width,
            heads=self.heads,
            feedforward=4 * self.language_width,
            context=self.news_tokens,
            positions="rotary",
            head="bert",
            dropout=self.language_dropout,
        )

    @property
    def _gpt(self) -> Decoder:
        """GPT-2's own shape, made small."""
        return Decoder(
            layers=self.language_layers,
            width=self.language_width,
            heads=self.heads,
            feedforward=4 * self.language_width,
            context=self.news_tokens,
            activation="gelu-tanh",
            tied=True,
            dropout=self.language_dropout,
        )

    def _classifier(self, corpus: Corpus, vocabulary: int, model: Architecture) -> Train:
        return Train(
            data=Tokens(corpus, BytePair(vocabulary=vocabulary, specials=SPECIALS, lowercase=True)),
            model=model,
            objective=Classification(),
            optimiser=AdamW(weight_decay=0.01),
            schedule=Schedule(peak=self.peak, warmup=min(50, self.steps)),
            batch=self.batch,
            steps=self.steps,
            average=self.average,
            patience=8,
            precision="fp32",
            compiled="no",
            recompute="no",
            evaluate_every=min(self.evaluate_every, self.steps),
            evaluate_tokens=0,
            seed=self.seed,
            device=self.device,
        ).settle()

    def _language_model(self, model: Architecture, objective: Objective) -> Train:
        return Train(
            data=Tokens(self.news, BytePair(vocabulary=self.language_vocabulary, specials=SPECIALS)),
            model=model,
            objective=objective,
            optimiser=AdamW(beta2=0.98),
            schedule=Schedule(peak=2e-3, warmup=min(100, self.language_steps), floor=0.05),
            batch=self.batch,
            steps=self.language_steps,
            precision=self.precision,
            compiled="no",
            recompute="no",
            evaluate_every=min(self.evaluate_every, self.language_steps),
            evaluate_tokens=0,
            seed=self.seed,
            device=self.device,
        ).settle()

    # What came of it

    def answer(self, done: Mapping[Recipe, Run]) -> dict[str, Any]:
        from etude.studies.sections.ladder_numbers import numbers

        return numbers(self, done)

    def tell(self, done: Mapping[Recipe, Run]) -> Report:
        from etude.studies.sections.ladder_page import page

        return page(self, done)
