"""Induction: two small attention-only models learn to go on with what they have read, and one of them can."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.core.spec import cosmetic
from etude.evals.recipes import Drawn, Heads, InContext
from etude.interp.recipes import HeadAblation, HeadCircuits
from etude.models.architectures.decoder import Decoder
from etude.report.blocks import Report
from etude.studies.base import Study
from etude.text.corpora.repetition import Repetition
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte
from etude.train.recipes import At, Train
from etude.train.schedule import Schedule


def _letters() -> Tokens:
    """Return rounds of letters that come again, of 8 to 15 letters out of 64, a letter a token. Their documents are
    longer than a window, so that a place in the window says nothing of a place in the round."""
    rounds = Repetition(problems=60_000, symbols=64, shortest=8, longest=15, total=40, spaced=False)
    return Tokens(rounds, Byte())


@dataclass(frozen=True)
class Induction(Study):
    """When do induction heads form, does the loss fall with them, and can one layer do the same?

    Two attention-only models of one shape, of two layers and of one, learn the same text. Checkpoints are scored for
    what their heads do on random repeated tokens of random period, for the loss there, and for the loss by position on
    held-out text (Olsson et al. 2022, "In-context Learning and Induction Heads", arguments 1 to 3).

    Attributes:
        data: the text; its tokens are also what the random sequences are made of.
        model: the model of two layers; the control has the first alone.
        steps: of each training.
        batch: windows in a step.
        peak: learning rate.
        warmup: steps until it is reached; it then stays.
        checkpoints: how many are scored, evenly spread, the untrained model beside them.
        seeds: trainings of each; the first is followed over its checkpoints, the others are scored at the end.
        sequences: random sequences that heads are scored on.
        drawn: tokens that these are made of.
        precision: of the trainings; `auto` is bf16 where the machine multiplies it natively.
        seed: of the first training.
        device: where it trains.
    """

    data: Tokens = field(default_factory=_letters)
    model: Decoder = field(
        default_factory=lambda: Decoder(
            layers=2, width=64, heads=4, feedforward=0, context=32, positions="rotary", spread=0.07
        )
    )
    steps: int = 1800
    batch: int = 32
    peak: float = 1e-3
    warmup: int = 50
    checkpoints: int = 18
    seeds: int = 3
    sequences: int = 128
    drawn: Drawn = "text"
    precision: Literal["fp32", "bf16", "auto"] = "auto"
    seed: int = 0
    device: str = cosmetic("cpu")

    def check(self) -> None:
        if self.model.layers < 2 or not self.model.attention_only:
            raise UsageError(
                f"layers = {self.model.layers}, feedforward = {self.model.feedforward}: the study compares an"
                " attention-only model of 2 layers or more with one of 1; set --model.feedforward 0"
            )
        if self.checkpoints < 2 or self.seeds < 1 or self.steps < 1 or self.steps % self.checkpoints:
            raise UsageError(
                f"steps = {self.steps}, checkpoints = {self.checkpoints}, seeds = {self.seeds}: give 2 or more"
                " checkpoints that divide the steps, and 1 seed or more"
            )
        if self.sequences < 2:
            raise UsageError(f"sequences = {self.sequences} is too small: it is 2 or more")

    def settle(self) -> Study:
        return replace(self, precision=self.train(self.model.layers, 0).precision)

    # What is wanted

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        followed = [self.train(layers, 0) for layers in self.depths]
        scored = [recipe for train in followed for step in self.at_steps for recipe in self.of_checkpoint(train, step)]
        others = [self.heads(self.train(layers, n)) for layers in self.depths for n in range(1, self.seeds)]
        wanted: list[Recipe] = [*followed, *scored, *others, self.circuits]
        if self.heads(followed[0]) in done:
            wanted.append(self.ablation(done))
        return dict.fromkeys(wanted)

    @property
    def depths(self) -> tuple[int, int]:
        """Layers of the model and of its control."""
        return (self.model.layers, 1)

    @property
    def at_steps(self) -> range:
        """The steps of the checkpoints, 0 among them."""
        return range(0, self.steps + 1, self.steps // self.checkpoints)

    def train(self, layers: int, number: int) -> Train:
        """Return a training, of so many layers and with the seed of that number."""
        every = self.steps // self.checkpoints
        return Train(
            data=self.data,
            model=replace(self.model, layers=layers),
            schedule=Schedule(shape="constant", peak=self.peak, warmup=min(self.warmup, self.steps)),
            batch=self.batch,
            steps=self.steps,
            precision=self.precision,
            compiled="no",
            recompute="no",
            evaluate_every=every,
            evaluate_tokens=16384,
            keep_every=every if number == 0 else 0,
            seed=self.seed + number,
            device=self.device,
        ).settle()

    def of_checkpoint(self, train: Train, step: int) -> tuple[Heads, InContext]:
        """Return what a checkpoint is scored for."""
        model = train if step == train.steps else At(train, step)
        return self.heads(model), InContext(model, tokens=16384)

    def heads(self, model: Train | At) -> Heads:
        """Return the scores of a model's heads."""
        return Heads(model, self.sequences, self.drawn)

    @property
    def circuits(self) -> HeadCircuits:
        """What the weights of the trained model say."""
        return HeadCircuits(self.train(self.model.layers, 0), pairs=4)

    def ablation(self, done: Mapping[Recipe, Run]) -> HeadAblation:
        """Return the loss without each head, and without all that do induction."""
        from etude.studies.sections.induction_numbers import induction_heads

        model = self.train(self.model.layers, 0)
        found = tuple(induction_heads(done[self.heads(model)]))
        return HeadAblation(model, group=found, sequences=self.sequences, drawn=self.drawn)

    # What came of it

    def answer(self, done: Mapping[Recipe, Run]) -> dict[str, Any]:
        from etude.studies.sections.induction_page import numbers

        return numbers(self, done)

    def tell(self, done: Mapping[Recipe, Run]) -> Report:
        from etude.studies.sections.induction_page import page

        return page(self, done)
