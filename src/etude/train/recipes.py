"""Recipes of training: a trained model, and a checkpoint of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, Self

from etude.core.errors import UsageError
from etude.core.recipe import Estimate, Recipe
from etude.core.run import Run
from etude.core.spec import AUTO, Spec, cosmetic
from etude.models.architectures.base import Architecture
from etude.models.architectures.decoder import Decoder
from etude.models.recipes import ModelRecipe
from etude.text.recipes import Tokens
from etude.train.choices import choices
from etude.train.objectives.base import Objective
from etude.train.objectives.next_token import NextToken
from etude.train.optimisers.adamw import AdamW
from etude.train.optimisers.base import Optimiser
from etude.train.schedule import Schedule

Choice = Literal["yes", "no", "auto"]

_OF_THE_MACHINE = ("precision", "compiled", "chunked", "recompute", "optimiser")
"""Fields in which an extension that leaves a choice open takes what the training that it extends was done with."""

_FREE = ("steps", "schedule", "start", "extend", "evaluate_every", "evaluate_tokens", "keep_every", "keep_state")
"""Fields in which an extension may differ: what comes, and what is looked at on the way."""


@dataclass(frozen=True)
class Train(ModelRecipe, kind="train", does="etude.train.work:train"):
    """Train a model on a corpus. `steps` 0 gives the untrained model.

    Attributes:
        data: the corpus and its tokens.
        model: the shape of the model.
        objective: what is learned.
        optimiser: how parameters move.
        schedule: the learning rate at each step.
        batch: samples in a step, over all devices together.
        accumulate: parts that a batch is taken in, to save memory; the gradient is the same.
        steps: how many steps.
        clip: greatest norm of the gradient; 0 does not clip.
        average: 0 gives the last weights. Else the share that a running mean of the weights keeps at each step, as in
            0.999; the mean is then evaluated and given.
        patience: 0 takes all steps. Else training stops after so many evaluations without a new least validation loss,
            and gives the weights that had it.
        precision: `fp32`; `bf16` matrix products with fp32 weights; or `auto`, which is bf16 where the machine
            multiplies it natively.
        compiled: whether PyTorch compiles the step; `auto` does where there is a GPU.
        chunked: whether the scores of all positions are never held at once; `auto` does where they would take over
            64 MB.
        recompute: whether activations are made again in the backward pass (activation checkpointing), which takes a
            third more time; `auto` does where they would take over half of the memory.
        start: a model whose weights to begin with. Those that this model does not share, such as another head, begin
            anew.
        freeze: whether the weights that came with `start` stay as they are, and only the others learn: a decoder that
            is fitted out with retrieval.
        extend: go on with the training in `start`: with its optimiser's state, at its last step, up to `steps`. It has
            to differ in nothing but steps and schedule, and to have been made with `keep_state`.
        evaluate_every: steps between evaluations on the validation split; 0 only before and after.
        evaluate_tokens: tokens of the validation split that each evaluation reads; 0 all of it.
        keep_every: steps between checkpoints that are kept for good; 0 keeps none but the last.
        keep_state: whether the optimiser's state is kept too, so that the training can be extended.
        seed: of the weights, the order of the data and dropout.
        device: where it trains: `cpu`, `cuda`, `mps`. Instruments that look at the model later run on the CPU.
        spread: what `torchrun`'s processes have of the model: `replicate`, each all of it (DDP), or `shard`, each a
            part of its weights (FSDP2), for models that do not fit one device.
    """

    together: ClassVar[bool] = True

    data: Tokens = field(default_factory=Tokens)
    model: Architecture = field(default_factory=Decoder)
    objective: Objective = field(default_factory=NextToken)
    optimiser: Optimiser = field(default_factory=AdamW)
    schedule: Schedule = field(default_factory=Schedule)
    batch: int = 32
    accumulate: int = 1
    steps: int = 1000
    clip: float = 1.0
    average: float = 0.0
    patience: int = 0
    precision: Literal["fp32", "bf16", "auto"] = "auto"
    compiled: Choice = "auto"
    chunked: Choice = "auto"
    recompute: Choice = "auto"
    start: ModelRecipe | None = None
    freeze: bool = False
    extend: bool = False
    evaluate_every: int = 250
    evaluate_tokens: int = 65536
    keep_every: int = 0
    keep_state: bool = False
    seed: int = 0
    device: str = cosmetic("cpu")
    spread: Literal["replicate", "shard"] = cosmetic("replicate")

    def check(self) -> None:
        least = dict.fromkeys(("steps", "clip", "patience", "evaluate_every", "evaluate_tokens", "keep_every"), 0)
        for name, smallest in {**least, "batch": 1, "accumulate": 1}.items():
            if getattr(self, name) < smallest:
                raise UsageError(f"{name} = {getattr(self, name)} is too small: it is {smallest} or more")
        if self.batch % self.accumulate:
            raise UsageError(f"a batch of {self.batch} does not divide into {self.accumulate} parts; choose a divisor")
        if self.data.openings and self.data.openings > self.model.context:
            raise UsageError(
                f"samples of {self.data.openings} tokens do not fit a context of {self.model.context};"
                f" set --model.context {self.data.openings} or more"
            )
        if not 0 <= self.average < 1:
            raise UsageError(f"average = {self.average} is not a share from 0 to below 1; 0.999 is usual")
        if self.patience and not self.evaluate_every:
            raise UsageError(f"patience = {self.patience} counts evaluations, and there are none: set --evaluate-every")
        if self.spread == "shard" and self.optimiser.whole:
            raise UsageError(
                f"optimiser {self.optimiser.name} needs each matrix whole: set --spread replicate, or --optimiser adamw"
            )
        if self.freeze and self.start is None:
            raise UsageError("freeze keeps the weights that --start brings, and there is none: name a run, or leave it")
        self.objective.check_fits(self.data, self.model)
        self._check_extension()

    def _check_extension(self) -> None:
        if not self.extend:
            return
        start = self.start
        if not isinstance(start, Train) or not start.keep_state:
            raise UsageError("extend goes on with a training that was made with --keep-state: name one with --start")
        names = [f.name for f in fields(self) if f.name not in _FREE and not f.metadata.get("cosmetic")]
        differing = [name for name in names if not _alike(getattr(self, name), getattr(start, name))]
        if differing:
            name = differing[0]
            raise UsageError(
                f"{name} = {getattr(self, name)} differs from {getattr(start, name)} in the training that is extended:"
                " only steps and schedule may"
            )
        if self.steps < start.steps:
            raise UsageError(f"steps = {self.steps} is less than the {start.steps} that the extended training took")

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.data, *([self.start] if self.start is not None else []), *self.objective.needs)

    def resolve(self) -> Self:
        settled = self
        if self.extend and isinstance(self.start, Train):
            start = self.start.resolve()
            chosen = {name: getattr(start, name) for name in _OF_THE_MACHINE}
            agreed = {name: its for name, its in chosen.items() if _alike(getattr(self, name), its)}
            settled = replace(self, start=start, **agreed)
        return super(Train, settled).resolve()

    def settle(self) -> Self:
        chosen = choices(self)
        return replace(self, **chosen) if chosen else self

    @property
    def needs(self) -> tuple[Recipe, ...]:
        return self.objective.needs

    @property
    def text(self) -> Tokens:
        return self.data

    @property
    def context(self) -> int:
        return self.data.openings or self.model.context

    @property
    def shape(self) -> Architecture:
        return self.model

    @property
    def tokens(self) -> int:
        """Positions trained on in all, padding included."""
        return self.steps * self.batch * self.context

    @property
    def log_every(self) -> int:
        """Steps between rows of the record: some two hundred rows, however long the training."""
        return max(1, self.steps // 200)

    def is_logged(self, taken: int) -> bool:
        """Return whether the record has a row after so many steps."""
        evaluated = self.evaluate_every > 0 and taken % self.evaluate_every == 0
        return taken % self.log_every == 0 or taken == self.steps or evaluated

    def estimate(self) -> Estimate:
        vocabulary = self.data.tokenizer.expected_vocabulary()
        parameters = self.model.parameters(vocabulary)
        forward = self.objective.flops_per_token(self.model, vocabulary, self.context)
        kept = 1 + (self.steps // self.keep_every if self.keep_every else 0) + (2 if self.keep_state else 0)
        taken = self.start.steps if self.extend and isinstance(self.start, Train) else 0
        done = 3.0 * forward * (self.steps - taken) * self.batch * self.context
        # Two checkpoints stand while a third is written, each with the weights and their two moments.
        return Estimate(parameters, done, disk_bytes=4 * parameters * (9 + kept))


def _alike(a: Any, b: Any) -> bool:
    """Return whether two values decide the same outcome, as far as they are decided: what is left to the machine may
    become the other, and what is cosmetic does not count."""
    if isinstance(a, Spec) and type(a) is type(b):
        return all(_alike(getattr(a, f.name), getattr(b, f.name)) for f in fields(a) if not f.metadata.get("cosmetic"))
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_alike, a, b))
    return a == b or AUTO in (a, b)


@dataclass(frozen=True)
class At(ModelRecipe, kind="at", does="etude.train.work:at"):
    """A trained model as it was at a step that its run kept. Step 0 is the model before training; of an extension, the
    model that is extended.

    Attributes:
        of: the training.
        step: the step.
    """

    of: Train = field(default_factory=Train)
    step: int = 0

    def check(self) -> None:
        if not 0 <= self.step <= self.of.steps:
            raise UsageError(f"step {self.step} is not in this training: it has steps 0 to {self.of.steps}")
        every = self.of.keep_every
        if self.step not in (0, self.of.steps) and (every == 0 or self.step % every):
            kept = f"steps 0 and {self.of.steps}" + (f", and every {every} between" if every else "")
            raise UsageError(f"step {self.step} is not kept: this training keeps {kept}; see --of.keep-every")
        start = self.of.start
        if self.of.extend and isinstance(start, Train) and not start.patience and 0 < self.step < start.steps:
            raise UsageError(
                f"step {self.step} was taken before step {start.steps}, by the training that is extended: ask it"
            )

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        needed: list[Recipe] = [self.of, self.of.data]
        return [*needed, self.of.start] if self.step == 0 and self.of.start is not None else needed

    @property
    def needs(self) -> tuple[Recipe, ...]:
        return self.of.needs

    @property
    def text(self) -> Tokens:
        return self.of.data

    @property
    def context(self) -> int:
        return self.of.context

    @property
    def shape(self) -> Architecture:
        return self.of.model
