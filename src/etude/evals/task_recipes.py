"""Recipes of tasks: a model is asked the items of a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from etude.core.errors import UsageError
from etude.core.recipe import Estimate, Recipe
from etude.core.run import Run
from etude.core.spec import cosmetic
from etude.evals.prompting import Prompt
from etude.evals.sites import shape_of
from etude.evals.tasks.base import Task
from etude.evals.tasks.truthfulqa import Truthfulqa
from etude.evals.whole_documents import check_causal
from etude.models.recipes import ModelRecipe

TooLong = Literal["refuse", "shorten", "leave-out"]
"""What is done where prompts are longer than the context."""


@dataclass(frozen=True)
class Evaluate(Recipe, kind="evaluate", does="etude.evals.evaluating:evaluate"):
    """Ask a decoder the items of a task, and score what it says: each score with its number of items, its 95% interval
    and what chance comes to. What was said to each item is kept in `items.jsonl`.

    It runs on the CPU, as every instrument does: only a training has a device.

    Attributes:
        of: the model.
        task: the file and what is measured by it.
        prompt: how its items are put.
        items: how many, spread evenly over the file; 0 is all.
        bare: whether the likelihood of each answer without the question is asked for too, to judge answers by what the
            question adds (Brown et al. 2020, section 2.4).
        too_long: what becomes of a prompt that is longer than the model's context: `refuse` ends the evaluation,
            `shorten` leaves its beginning out, and the item where the answer itself is longer, `leave-out` the item.
            How many it concerned is told.
        precision: `fp32`, or `bf16` for matrix products in bf16.
        at_once: tokens that are read at once, about. It decides rounding alone.
    """

    version: ClassVar[int] = 2  # 2: Wilson's intervals

    of: ModelRecipe
    task: Task = field(default_factory=Truthfulqa)
    prompt: Prompt = field(default_factory=Prompt)
    items: int = 0
    bare: bool = False
    too_long: TooLong = "refuse"
    precision: Literal["fp32", "bf16"] = "fp32"
    at_once: int = cosmetic(4096)

    def check(self) -> None:
        if self.items < 0 or self.at_once < 1:
            raise UsageError(
                f"items = {self.items}, at_once = {self.at_once}: give 0 for all items, and 1 token or more"
            )
        if self.bare and self.task.measure != "choice":
            raise UsageError(f"bare asks for answers without their question, and {self.task.name} has none to choose")
        if self.prompt.shots and self.task.measure == "passage":
            raise UsageError("a text that is read whole has no examples: set --prompt.shots 0")
        shape = shape_of(self.of)
        if shape is not None:
            check_causal(shape.name, "tasks are")

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.of, *self.of.needs)

    def estimate(self) -> Estimate:
        return Estimate(disk_bytes=1 << 22)
