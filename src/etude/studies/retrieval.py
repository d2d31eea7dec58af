"""A decoder with a library, trained from scratch and fitted out, against decoders without."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.recipes import BitsPerByte
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.retro import Retro
from etude.report.blocks import Report
from etude.retrieval.embedders.tfidf import Tfidf
from etude.retrieval.recipes import Answers, KnnLm, Library, Neighbours
from etude.scaling.ladder import Ladder
from etude.studies.base import Study
from etude.text.corpora.facts import Facts
from etude.text.recipes import Tokens
from etude.text.tokenizers.bpe import BytePair
from etude.train.objectives.retrieval import Retrieval as Objective
from etude.train.optimisers.muon import Muon
from etude.train.recipes import Train
from etude.train.schedule import Schedule

ABLATED: dict[str, dict[str, Any]] = {
    "not conditioned on the chunk": {"model.conditioned": False},
    "neighbour without its continuation": {"objective.reads": "neighbour"},
    "continuation without its neighbour": {"objective.reads": "continuation"},
    "trained with 1 neighbour": {"objective.k": 1},
    "trained with 4 neighbours": {"objective.k": 4},
    "read in one layer": {"model.cross_every": 1_000},
    "read in every layer": {"model.cross_from": 0, "model.cross_every": 1},
}
"""The ablations of Borgeaud et al. 2021, table 7, as far as they are choices here: what is changed of the training."""


NAMED = 1024
"""Dimensions of TF-IDF keys that tell thousands of invented names apart. A name is a few rare tokens, of which the
leading directions of a text say little: the fewer of them, the fewer questions find their statement (LOG.md)."""


def _course(subjects: int, steps: int) -> Train:
    """Return a training that learns to look planted facts up in hundreds of steps. Looking up is two steps that pay
    only together: to copy what stands in a neighbour, and to choose of it what is asked for. Each neighbour here is
    the right one and holds little else; LOG.md says what was tried."""
    data = Tokens(Facts(subjects=subjects, facts=4, lead=36, holds="questions"), BytePair(vocabulary=2048))
    model = Retro(
        layers=2,
        width=64,
        heads=4,
        feedforward=256,
        context=96,
        tied=True,
        rotary_base=100.0,
        spread=0.1,
        chunk=32,
        cross_from=0,
        cross_every=1,
        encoder_width=64,
    )
    return Train(
        data=data,
        model=model,
        objective=Objective(),
        optimiser=Muon(),
        schedule=Schedule(peak=1e-2, warmup=100),
        batch=48,
        steps=steps,
        evaluate_every=100,
    )


@dataclass(frozen=True)
class Retrieval(Study):
    """What does a library bring a language model: trained with it, or fitted out with it later, and against a model
    that is larger instead?

    Attributes:
        train: how each model is trained; its model is a `retro`, and its objective is made here.
        library: what is searched; none is the training split of the text itself, with TF-IDF keys, and where the text
            is questions about planted facts (`facts.holds`), their statements.
        stored: neighbours that are stored of each chunk.
        k: how many of them models are trained with.
        ks: how many they are given when they are scored.
        near_duplicates: documents of the library as similar as this to one of the validation or test split are never
            found (Jaccard of 13-grams); 0 keeps them.
        retrofit: steps in which a trained decoder's encoder and cross-attention learn, the rest of it frozen; 0 leaves
            it out.
        rivals: whether decoders of as many parameters, and of as many FLOPs a token, are trained too.
        sizes: how many times as many parameters as the plain decoder further ones have, to find the one that comes to
            the same bits per byte.
        knn: positions of the training text that a kNN-LM on the plain decoder remembers; 0 leaves it out.
        ablations: whether the parts of retrieval are taken out or changed one by one.
        split: what is scored.
    """

    train: Train = field(default_factory=lambda: _course(16_000, 1500))
    library: Library | None = None
    stored: int = 10
    k: int = 2
    ks: tuple[int, ...] = (1, 2, 3, 5, 10)
    near_duplicates: float = 0.8
    retrofit: int = 1000
    rivals: bool = True
    sizes: tuple[float, ...] = ()
    knn: int = 131072
    ablations: bool = False
    split: Literal["valid", "test"] = "test"

    @classmethod
    def presets(cls) -> dict[str, Self]:
        return {"quick": cls(_course(8_000, 800), k=1, ks=(1, 2, 4), retrofit=800, knn=0, rivals=False)}

    def check(self) -> None:
        if not isinstance(self.train.model, Retro):
            raise UsageError(f"a {self.train.model.name} reads no neighbours: set --train.model retro")
        if self.train.objective != Objective() or self.train.start is not None:
            raise UsageError("the objective and what trainings begin with are made here: leave them as they are")
        if not self.ks or not min(self.k, *self.ks) >= 1 or max(self.k, *self.ks) > self.stored:
            raise UsageError(f"k = {self.k}, ks = {self.ks}: choose 1 to the {self.stored} neighbours that are stored")
        if min(self.retrofit, self.knn) < 0 or any(size <= 0 for size in self.sizes):
            raise UsageError(f"retrofit = {self.retrofit}, knn = {self.knn}, sizes = {self.sizes}: none is below 0")
        if self.library is not None and self.library.chunk != self.model.chunk:
            raise UsageError(
                f"the library's chunks have {self.library.chunk} tokens and the model's {self.model.chunk}: set"
                f" --train.model.chunk {self.library.chunk}"
            )

    # What is made

    @property
    def model(self) -> Retro:
        """The model that retrieves."""
        assert isinstance(self.train.model, Retro)  # `check` saw to it
        return self.train.model

    @property
    def searched(self) -> Library:
        """The library."""
        if self.library is not None:
            return self.library
        data, corpus = self.train.data, self.train.data.corpus
        if not (isinstance(corpus, Facts) and corpus.holds == "questions"):
            return Library(data, self.model.chunk)
        stated = Tokens(replace(corpus, holds="statements"), data.tokenizer, like=data)
        return Library(stated, self.model.chunk, Tfidf(dimension=NAMED))

    @property
    def neighbours(self) -> Neighbours:
        """The neighbours of the text's chunks."""
        own = None if self.searched.data == self.train.data else self.train.data
        return Neighbours(self.searched, own, k=self.stored, near_duplicates=self.near_duplicates)

    @property
    def retrieving(self) -> Train:
        """The training with retrieval, from scratch."""
        return replace(self.train, objective=Objective(self.neighbours, self.k))

    @property
    def plain(self) -> Train:
        """The same training of the decoder without retrieval."""
        return replace(self.train, model=self.model.plain)

    @property
    def retrofitted(self) -> Train:
        """The plain decoder, frozen, with retrieval learned."""
        return replace(self.retrieving, start=self.plain, freeze=True, steps=self.retrofit)

    @property
    def larger(self) -> dict[str, Train]:
        """Plain decoders of other sizes, by what they are to match."""
        vocabulary = self.train.data.tokenizer.expected_vocabulary()
        ladder, model = Ladder(self.model.plain, vocabulary), self.model
        own = model.plain.parameters(vocabulary)
        wanted: dict[str, float] = {f"{size:g} times the parameters": size * own for size in self.sizes}
        if self.rivals:
            # FLOPs grow as the parameters do, near enough to choose a size by; the page tells what they came to.
            flops = model.flops_per_token(vocabulary, model.context)
            wanted["as many parameters"] = model.parameters(vocabulary)
            wanted["as many FLOPs"] = own * (1 + model.retrieval_flops(self.k) / flops)
        spec = {name: ladder.exactly(params).spec(model.plain) for name, params in wanted.items()}
        return {name: replace(self.train, model=shape) for name, shape in spec.items() if isinstance(shape, Decoder)}

    @property
    def ablated(self) -> dict[str, Train]:
        """Trainings in which one choice of retrieval is another."""
        if not self.ablations:
            return {}
        found = {}
        for name, changes in ABLATED.items():
            parts: dict[str, dict[str, Any]] = {"model": {}, "objective": {}}
            for path, value in changes.items():
                part, _, key = path.partition(".")
                parts[part][key] = value
            objective = replace(Objective(self.neighbours, self.k), **parts["objective"])
            changed = replace(self.train, model=replace(self.model, **parts["model"]), objective=objective)
            if changed != self.retrieving:
                found[name] = changed
        return found

    def scored(self, train: Train, k: int = 0) -> BitsPerByte:
        """Return the score of a model with k neighbours."""
        return BitsPerByte(train, split=self.split, neighbours=self.neighbours if k else None, k=k)

    def answers(self, scored: BitsPerByte) -> Answers:
        """Return what a score says of the answers alone, where the text is of planted facts."""
        return Answers(scored)

    @property
    def asks(self) -> bool:
        """Whether the text has answers that are known."""
        return isinstance(self.train.data.corpus, Facts)

    @property
    def remembering(self) -> KnnLm:
        """The kNN-LM."""
        return KnnLm(self.plain, split=self.split, positions=self.knn)

    @property
    def scores(self) -> dict[str, BitsPerByte]:
        """Every score by its name, in the order in which they are told."""
        found = {"plain": self.scored(self.plain), "retrieval, off": self.scored(self.retrieving)}
        found |= {f"retrieval, k = {k}": self.scored(self.retrieving, k) for k in self.given}
        if self.retrofit:
            found["fitted out, off"] = self.scored(self.retrofitted)
            found |= {f"fitted out, k = {k}": self.scored(self.retrofitted, k) for k in self.given}
        found |= {f"plain, {name}": self.scored(train) for name, train in self.larger.items()}
        for name, train in self.ablated.items():
            found[name] = self.scored(train, getattr(train.objective, "k", self.k))
        return found

    @property
    def given(self) -> list[int]:
        """Numbers of neighbours that models are scored with, the trained one among them."""
        return sorted({self.k, *self.ks})

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        scores = list(self.scores.values())
        asked = [self.answers(score) for score in scores] if self.asks else []
        wanted = [self.train.data, self.neighbours, *(score.of for score in scores), *scores, *asked]
        return list(dict.fromkeys([*wanted, *([self.remembering] if self.knn else [])]))

    def answer(self, done: Mapping[Recipe, Run]) -> dict[str, Any]:
        from etude.studies.sections.retrieval_numbers import numbers

        return numbers(self, done)

    def tell(self, done: Mapping[Recipe, Run]) -> Report:
        from etude.studies.sections.retrieval_page import page

        return page(self, done)
