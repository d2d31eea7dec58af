"""Recipes of training: a trained model, and a checkpoint of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Self

from etude.core.errors import UsageError
from etude.core.machine import multiplies_bf16
from etude.core.recipe import Estimate, Recipe
from etude.core.run import Run
from etude.core.spec import AUTO, cosmetic
from etude.models.decoder import Decoder
from etude.models.recipes import ModelRecipe
from etude.text.recipes import Tokens
from etude.train.objectives.base import Objective
from etude.train.objectives.next_token import NextToken
from etude.train.optimisers.adamw import AdamW
from etude.train.optimisers.base import Optimiser
from etude.train.schedule import Schedule


@dataclass(frozen=True)
class Train(ModelRecipe, kind="train", does="etude.train.work:train"):
    """Train a decoder on a corpus. `steps` 0 gives the untrained model.

    Attributes:
        data: the corpus and its tokens.
        model: the shape of the model.
        objective: what is learned.
        optimiser: how parameters move.
        schedule: the learning rate at each step.
        batch: windows in a step.
        accumulate: parts that a batch is taken in, to save memory; the gradient is the same.
        steps: how many steps.
        clip: greatest norm of the gradient; 0 does not clip.
        precision: `fp32`; `bf16` matrix products with fp32 weights; or `auto`, which is bf16 where the machine
            multiplies it natively.
        evaluate_every: steps between evaluations on the validation split; 0 only before and after.
        evaluate_tokens: tokens of the validation split that each evaluation reads; 0 all of it.
        keep_every: steps between checkpoints that are kept for good; 0 keeps none but the last.
        seed: of the weights, the order of the data and dropout.
        device: where it trains: `cpu`, `cuda`, `mps`. Instruments that look at the model later run on the CPU.
        recompute: activation checkpointing, which saves memory and costs a third more time.
    """

    data: Tokens = field(default_factory=Tokens)
    model: Decoder = field(default_factory=Decoder)
    objective: Objective = field(default_factory=NextToken)
    optimiser: Optimiser = field(default_factory=AdamW)
    schedule: Schedule = field(default_factory=Schedule)
    batch: int = 32
    accumulate: int = 1
    steps: int = 1000
    clip: float = 1.0
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    evaluate_every: int = 250
    evaluate_tokens: int = 65536
    keep_every: int = 0
    seed: int = 0
    device: str = cosmetic("cpu")
    recompute: bool = False

    def check(self) -> None:
        for name in ("steps", "batch", "accumulate", "clip", "evaluate_every", "evaluate_tokens", "keep_every"):
            least = 1 if name in ("batch", "accumulate") else 0
            if getattr(self, name) < least:
                raise UsageError(f"{name} = {getattr(self, name)} is too small: it is {least} or more")
        if self.batch % self.accumulate:
            raise UsageError(f"a batch of {self.batch} does not divide into {self.accumulate} parts; choose a divisor")
        if self.data.openings and self.data.openings > self.model.context:
            raise UsageError(
                f"samples of {self.data.openings} tokens do not fit a context of {self.model.context};"
                f" set --model.context {self.data.openings} or more"
            )

    def settle(self) -> Self:
        if self.precision != AUTO:
            return self
        native = multiplies_bf16() if self.device == "cpu" else self.device.startswith("cuda")
        return replace(self, precision="bf16" if native else "fp32")

    @property
    def text(self) -> Tokens:
        return self.data

    @property
    def context(self) -> int:
        return self.data.openings or self.model.context

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
        forward = self.model.flops_per_token(vocabulary, self.context)
        kept = 1 + (self.steps // self.keep_every if self.keep_every else 0)
        # Two checkpoints stand while a third is written, each with the weights and their two moments.
        return Estimate(parameters, 3.0 * forward * self.tokens, disk_bytes=4 * parameters * (9 + kept))


@dataclass(frozen=True)
class At(ModelRecipe, kind="at", does="etude.train.work:at"):
    """A trained model as it was at a step that its run kept. Step 0 is the model before training.

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

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.of, self.of.data)

    @property
    def text(self) -> Tokens:
        return self.of.data

    @property
    def context(self) -> int:
        return self.of.context
