"""Compute-optimal scaling, measured: a range of sizes at each budget of FLOPs, the three fits, and their prediction
for a greater budget, which is then trained.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Self

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.models.architectures.base import Architecture
from etude.models.architectures.decoder import Decoder
from etude.report.blocks import Report
from etude.scaling.accounting import steps_for
from etude.scaling.advice import preferred
from etude.scaling.ladder import Ladder, Rung
from etude.scaling.recipes import Calibrate, Convention, Counted, FitLaws, Swept
from etude.studies.base import Study
from etude.text.corpora.base import Corpus
from etude.text.corpora.fable import Fable
from etude.text.recipes import Tokens
from etude.text.tokenizers.base import TokenizerSpec
from etude.text.tokenizers.bpe import BytePair
from etude.train.optimisers.adamw import AdamW
from etude.train.optimisers.base import Optimiser
from etude.train.recipes import Train
from etude.train.schedule import Schedule

FEWEST_STEPS = 20
"""Steps under which a training is no training."""

OTHER_COUNTS: tuple[tuple[Counted, Convention], ...] = (
    ("all", "exact"),
    ("all", "6nd"),
    ("without-embeddings", "exact"),
    ("without-embeddings", "6nd-without-embeddings"),
)
"""Ways of counting size and FLOPs that are held against each other; the last is that of Kaplan et al. 2020."""


@dataclass(frozen=True)
class Isoflop(Study):
    """Given a text, an architecture and a budget of FLOPs, how many parameters and tokens are best?

    At each budget several sizes are trained, each for as many tokens as the budget buys it (approach 2 of Hoffmann et
    al. 2022); the same trainings are fitted by approaches 1 and 3. What the fits say of a greater budget is trained,
    and compared. Adding a budget keeps what the others trained.

    Attributes:
        budgets: FLOPs of training, by `convention`.
        corpus: the text.
        tokenizer: what makes tokens of it.
        model: all of the architecture but layers, width, heads and feed-forward width, which a size decides.
        optimiser: how parameters move.
        schedule: the learning rate; its warm-up is a share of the steps, `warmup`.
        warmup: share of the steps of each training that warms up.
        batch: samples in a step.
        sizes: how many sizes are trained at each budget.
        spread: the greatest size at a budget over the middle one, and the middle one over the least.
        ratio: tokens for each parameter at the middle size: a first guess at what is best.
        counted: which parameters make the size.
        convention: how FLOPs are counted.
        held_out: the greater budget whose best model is predicted and then trained, in FLOPs; 0 is four times the
            greatest, and -1 leaves it out.
        oversized: at that budget a model so many times the predicted size is trained too, on as many fewer tokens, as
            Gopher is to Chinchilla; 0 leaves it out.
        sensitive: so many of the smallest budgets are trained again with a warm-up that is long for them, and with a
            learning rate that does not fall, to see what that does to the exponents; 0 leaves it out.
        evaluate_tokens: tokens of the validation split that each model is scored on, the same for all.
        most_epochs: a training that would read the text more often is refused.
        draws: bootstrap samples behind each interval.
        advise: budgets of FLOPs of your own, for which sizes and tokens are advised.
        seed: of weights, data order and samples.
        until: `planned` says sizes, tokens and hours, from a few steps of each; `swept` trains the sweep and fits it;
            `tested` trains the prediction too.
    """

    budgets: tuple[float, ...]
    corpus: Corpus = field(default_factory=lambda: Fable(stories=200_000))
    tokenizer: TokenizerSpec = field(default_factory=lambda: BytePair(vocabulary=512))
    model: Decoder = field(default_factory=lambda: Decoder(context=128, positions="rotary", tied=True, mup_base=64))
    optimiser: Optimiser = field(default_factory=lambda: AdamW(beta2=0.99))
    schedule: Schedule = field(default_factory=lambda: Schedule(peak=6e-3, floor=0.1))
    warmup: float = 0.05
    batch: int = 8
    sizes: int = 6
    spread: float = 3.0
    ratio: float = 12.0
    counted: Counted = "all"
    convention: Convention = "exact"
    held_out: float = 0.0
    oversized: float = 4.0
    sensitive: int = 0
    evaluate_tokens: int = 32768
    most_epochs: float = 1.0
    draws: int = 1000
    advise: tuple[float, ...] = ()
    seed: int = 0
    until: Literal["planned", "swept", "tested"] = "tested"

    @classmethod
    def presets(cls) -> dict[str, Self]:
        quick = cls((2e11, 4e11, 8e11), sizes=5, draws=200)
        return {"quick": quick, "laptop": cls((2e11, 4e11, 8e11, 1.6e12, 3.2e12))}

    def check(self) -> None:
        if not self.budgets or any(budget <= 0 for budget in self.budgets):
            raise UsageError(f"budgets = {self.budgets}: give FLOPs above 0, at least three budgets for an exponent")
        if len(set(self.budgets)) < len(self.budgets):
            raise UsageError(f"budgets = {self.budgets} names one twice; name each once")
        if self.sizes < 3 or self.spread <= 1 or self.ratio <= 0:
            raise UsageError(
                f"sizes = {self.sizes}, spread = {self.spread:g}, ratio = {self.ratio:g}: a parabola needs 3 sizes or"
                " more, the spread is above 1, the ratio above 0"
            )
        if not 0 <= self.warmup < 1 or (self.oversized and self.oversized <= 1):
            raise UsageError(
                f"warmup = {self.warmup:g}, oversized = {self.oversized:g}: a warm-up is a share from 0 to below 1; an"
                " oversized model is more than 1 times the predicted one, or 0 leaves it out"
            )
        if 0 < self.held_out <= max(self.budgets):
            raise UsageError(
                f"held_out = {self.held_out:g} is no more than the greatest budget, {max(self.budgets):g}: what is held"
                " out is predicted from less"
            )
        if len(self.budgets) < 2 and self.until != "planned":
            raise UsageError(
                f"budgets = {self.budgets}: one budget tells no exponent, which is seen after all its trainings only;"
                " add a budget, or plan it with --until planned"
            )
        if self.sensitive == 1 or not 0 <= self.sensitive <= len(self.budgets):
            raise UsageError(
                f"sensitive = {self.sensitive} of {len(self.budgets)} budgets: give 0, or from 2, which an exponent"
                " takes, up to all of them"
            )
        _ = self.fit, self.trainings  # which check what is handed on

    # What is wanted

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        if self.data not in done:
            return (self.data,)
        self._require_text(done[self.data], self.trainings)
        wanted: list[Recipe] = [self.data, *self.calibrations.values()]
        if self.until == "planned":
            return wanted
        trainings = [*self.trainings, *(train for trains in self.variants.values() for train in trains)]
        wanted += sorted(dict.fromkeys(trainings), key=lambda train: -train.estimate().flops)
        wanted += [self.fit, *self.recounted.values(), *self.refitted.values()]
        if self.until == "tested" and self.fit in done:
            tests = list(self.tests(done).values())
            self._require_text(done[self.data], tests)
            wanted += tests
        return dict.fromkeys(wanted)  # one of the other counts is the study's own

    def _require_text(self, tokens: Run, trainings: list[Train]) -> None:
        """Raise UsageError where one of the trainings would read the text too often."""
        there = int(tokens.result["splits"]["train"]["tokens"])
        longest = max(trainings, key=lambda train: train.tokens, default=None)
        if longest is None:
            return
        if longest.tokens > self.most_epochs * there:
            raise UsageError(
                f"a budget buys a model of {longest.model.parameters(self.vocabulary):,} parameters"
                f" {longest.tokens:,} tokens, and {self.corpus.name} has {there:,}: {longest.tokens / there:.1f}"
                f" epochs, more than most_epochs = {self.most_epochs:g}; give more text, smaller budgets, or set"
                " --most-epochs"
            )

    @property
    def data(self) -> Tokens:
        return Tokens(self.corpus, self.tokenizer)

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding, as they are expected before there is a tokenizer."""
        return self.tokenizer.expected_vocabulary()

    @cached_property
    def ladder(self) -> Ladder:
        """The shapes that sizes are taken from."""
        return Ladder(self.model, self.vocabulary, self.counted)

    @property
    def target(self) -> float:
        """The greater budget whose best model is predicted; 0 is none."""
        return 0.0 if self.held_out < 0 else self.held_out or 4 * max(self.budgets)

    def rungs(self, budget: float) -> list[Rung]:
        """Return the sizes that are trained at a budget: those nearest to its middle among steps of equal ratio, which
        are the same for all budgets, so that a size has several horizons, and a new budget moves none."""
        step = 2 * math.log(self.spread) / (self.sizes - 1)
        middle = math.log(budget / (6 * self.ratio)) / 2
        first = round(middle / step - (self.sizes - 1) / 2)
        try:
            found = [self.ladder.nearest(math.exp(step * (first + n))) for n in range(self.sizes)]
        except UsageError as error:
            raise UsageError(
                f"no {self.sizes} sizes for {budget:g} FLOPs: {error}; or change --ratio, --spread"
            ) from None
        if len(set(found)) < self.sizes:
            raise UsageError(
                f"sizes = {self.sizes} within a spread of {self.spread:g} are nearer to each other than the ladder's"
                " rungs: raise --spread, or take fewer sizes"
            )
        return found

    def train(self, spec: Architecture, budget: float) -> Train:
        """Return the training of a model for a budget.

        Raises:
            UsageError: the budget does not buy this model steps enough.
        """
        steps = steps_for(budget, spec, self.vocabulary, self.model.context, self.batch, self.convention)
        if steps < FEWEST_STEPS:
            raise UsageError(
                f"a budget of {budget:g} FLOPs buys a model of {spec.parameters(self.vocabulary):,} parameters {steps}"
                f" steps of {self.batch * self.model.context:,} tokens: raise the budget, or take a smaller --batch,"
                " --spread or a greater --ratio"
            )
        return Train(
            data=self.data,
            model=spec,
            optimiser=self.optimiser,
            schedule=replace(self.schedule, warmup=max(1, round(self.warmup * steps))),
            batch=self.batch,
            steps=steps,
            evaluate_every=0,
            evaluate_tokens=self.evaluate_tokens,
            seed=self.seed,
        )

    def at(self, budget: float) -> list[Train]:
        """Return the trainings of a budget, smallest model first."""
        return [self.train(rung.spec(self.model), budget) for rung in self.rungs(budget)]

    @cached_property
    def trainings(self) -> list[Train]:
        """The sweep, budget by budget."""
        return [train for budget in sorted(self.budgets) for train in self.at(budget)]

    @cached_property
    def calibrations(self) -> dict[Train, Calibrate]:
        """A short look at each size, by the first training of it."""
        first = {train.model: train for train in reversed(self.trainings)}
        return {train: Calibrate(train) for train in sorted(first.values(), key=lambda train: train.model.width)}

    @cached_property
    def fit(self) -> FitLaws:
        """The three fits to the sweep."""
        return self._fitted(self.trainings, sorted(self.budgets), self.counted, self.convention)

    @cached_property
    def recounted(self) -> dict[tuple[Counted, Convention], FitLaws]:
        """The fits with sizes and FLOPs counted in other ways."""
        return {way: self._fitted(self.trainings, sorted(self.budgets), *way) for way in OTHER_COUNTS}

    @cached_property
    def variants(self) -> dict[str, list[Train]]:
        """The smallest budgets trained in other ways."""
        few = sorted(self.budgets)[: self.sensitive]
        plain = [train for budget in few for train in self.at(budget)]
        if not plain:
            return {}
        longest = max(train.schedule.warmup for train in self.trainings)
        return {
            "as it is": plain,
            "a long warm-up": [_scheduled(t, warmup=min(longest, t.steps // 2)) for t in plain],
            "no decay": [_scheduled(t, floor=1.0) for t in plain],
        }

    @cached_property
    def refitted(self) -> dict[str, FitLaws]:
        """The fits to the variants."""
        few = sorted(self.budgets)[: self.sensitive]
        return {
            name: self._fitted(trains, few, self.counted, self.convention) for name, trains in self.variants.items()
        }

    def _fitted(self, trains: list[Train], budgets: list[float], counted: Counted, convention: Convention) -> FitLaws:
        of = Swept(tuple(trains), tuple(b for b in budgets for _ in range(self.sizes)), counted, convention)
        return FitLaws(
            of, draws=self.draws, budgets=(*self.advise, *([self.target] if self.target else [])), seed=self.seed
        )

    def tests(self, done: Mapping[Recipe, Run]) -> dict[str, Train]:
        """Return the trainings at the greater budget: of the predicted size, and of an oversized model."""
        if not self.target:
            return {}
        size = predicted_size(done[self.fit].result, self.target)
        sizes = {"predicted": size} | ({"oversized": self.oversized * size} if self.oversized else {})
        shapes = {name: self.ladder.exactly(N).spec(self.model) for name, N in sizes.items()}
        return {name: self.train(spec, self.target) for name, spec in shapes.items()}

    # What came of it

    def answer(self, done: Mapping[Recipe, Run]) -> dict[str, Any]:
        from etude.studies.sections.isoflop_numbers import numbers

        return numbers(self, done)

    def tell(self, done: Mapping[Recipe, Run]) -> Report:
        from etude.studies.sections.isoflop_page import page

        return page(self, done)


def predicted_size(fitted: Mapping[str, Any], budget: float) -> float:
    """Return the best size for a budget by approach 2; by approach 3 where there is none, and else by approach 1."""
    told = next(row for row in fitted["advice"] if row["flops"] == budget)
    return float(told[preferred(told)]["params"]["estimate"])


def _scheduled(train: Train, **changes: Any) -> Train:
    return replace(train, schedule=replace(train.schedule, **changes))
