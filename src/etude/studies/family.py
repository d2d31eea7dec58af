"""A family of models asked many tasks (the design of Rae et al. 2021, section 4): which abilities grow with scale?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.item_masks import ItemMask
from etude.evals.listed import Listed
from etude.evals.prompting import Prompt
from etude.evals.task_recipes import Evaluate, TooLong
from etude.models.recipes import ModelRecipe
from etude.report.blocks import Report
from etude.studies.base import Study

Metric = Literal["accuracy", "by_characters", "by_bytes", "by_tokens", "unconditional"]


@dataclass(frozen=True)
class Family(Study):
    """Which kinds of tasks do larger models of a family do better, and which not?

    Every model is asked the same items, so that differences between models are paired. A category's score is the mean
    of its tasks'; intervals are of a bootstrap over the items of each task.

    Attributes:
        of: the models, at least two of different sizes.
        tasks: files of items, a folder of them, CATEGORY:FILE, or a JSON file with the files of each category.
        prompt: how items are put.
        items: of each task at most so many, spread evenly; 0 is all.
        metric: how the likeliest of several answers is chosen: by its log-likelihood, that a character, byte or token,
            or less that of the answer without its question.
        too_long: what becomes of prompts that are longer than the context of a model: the item is left out of the task
            for all models, or shortened, or the study refused.
        mask: items that are left out, such as those that stand in the training text.
        draws: of the bootstrap.
        seed: of the bootstrap.
        precision: of matrix products.
    """

    of: tuple[ModelRecipe, ...]
    tasks: tuple[Listed, ...]
    prompt: Prompt = field(default_factory=Prompt)
    items: int = 200
    metric: Metric = "accuracy"
    too_long: TooLong = "leave-out"
    mask: ItemMask = field(default_factory=ItemMask)
    draws: int = 4000
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"

    def check(self) -> None:
        if len(self.of) < 2 or len(set(self.of)) < len(self.of):
            raise UsageError(f"a family has at least two models, each named once, and these are {len(self.of)}")
        if not self.tasks:
            raise UsageError("there is nothing to ask: give files of items with --tasks")
        if any(listed.task.measure == "passage" for listed in self.tasks):
            named = next(listed.name for listed in self.tasks if listed.task.measure == "passage")
            raise UsageError(f"{named} is a text to be read, which is never right or wrong: use `etude run evaluate`")
        least = 100 * len({listed.category for listed in self.tasks})
        if self.draws < least:
            raise UsageError(
                f"draws = {self.draws} are too few to widen intervals for all categories: {least:,} or more"
            )
        keys = [(listed.category, listed.name) for listed in self.tasks]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise UsageError(f"task {twice[1]} is listed twice under {twice[0] or 'no category'}: name it once")

    def evaluations(self, of: ModelRecipe) -> list[Evaluate]:
        """Return what a model is asked, in the order of the tasks."""
        return [
            Evaluate(
                of,
                listed.task,
                self.prompt,
                self.items,
                self.metric == "unconditional" and listed.task.measure == "choice",
                self.too_long,
                self.precision,
            )
            for listed in self.tasks
        ]

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        asked = (one for of in self.of for one in self.evaluations(of))
        return [*self.of, *dict.fromkeys(asked)]  # a file may stand under several categories

    def answer(self, done: Mapping[Recipe, Run]) -> dict[str, Any]:
        from etude.studies.sections.tasks_numbers import numbers

        return numbers(self, done)

    def tell(self, done: Mapping[Recipe, Run]) -> Report:
        from etude.studies.sections.tasks_page import page

        return page(self, done)
