"""Prompts as a subject of study (Brown et al. 2020; Reynolds and McDonell 2021): what do wording, examples and their
order change?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from etude.core.errors import UsageError, unknown
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.prompting import FRAMES, WORDINGS, Prompt
from etude.evals.task_recipes import Evaluate, TooLong
from etude.evals.tasks.base import Task
from etude.evals.tasks.truthfulqa import Truthfulqa
from etude.models.recipes import ModelRecipe
from etude.report.blocks import Report
from etude.studies.base import Study

Metric = Literal["accuracy", "by_characters", "by_bytes", "by_tokens"]


@dataclass(frozen=True)
class Prompts(Study):
    """How much does a model's score depend on how the question is put: on the number of examples, on which they are,
    their order, the wording, and the frame around them?

    All prompts put the same items, so that differences between prompts are paired.

    Attributes:
        of: the model.
        task: the file and what is measured by it.
        shots: numbers of examples of the in-context learning curve.
        crossed: examples in the prompts of which wording, examples and order are crossed.
        wordings: names in `etude.evals.prompting.WORDINGS`, or texts with {question}; the first is that of the curve.
        seeds: draws of the examples.
        orders: orders in which each draw stands.
        frames: frames around a prompt without examples, told beside the plain one.
        items: of the task at most so many, spread evenly; 0 is all.
        metric: how the likeliest of several answers is chosen.
        too_long: what becomes of prompts that are longer than the context.
        precision: of matrix products.
    """

    of: ModelRecipe
    task: Task = field(default_factory=Truthfulqa)
    shots: tuple[int, ...] = (0, 1, 2, 4, 8)
    crossed: int = 4
    wordings: tuple[str, ...] = ("qa", "question", "plain")
    seeds: int = 3
    orders: int = 2
    frames: tuple[str, ...] = ("role", "dialogue", "story", "fill-in")
    items: int = 200
    metric: Metric = "accuracy"
    too_long: TooLong = "leave-out"
    precision: Literal["fp32", "bf16"] = "fp32"

    def check(self) -> None:
        if self.task.measure == "passage":
            raise UsageError(f"a task of {self.task.name} puts no questions: choose one that does")
        if not self.shots or list(self.shots) != sorted({*self.shots}) or self.shots[0] < 0:
            raise UsageError(f"shots = {self.shots}: give rising numbers from 0 on")
        if not self.wordings or len({*self.wordings}) < len(self.wordings):
            raise UsageError(f"wordings = {', '.join(self.wordings) or '(none)'}: name one or more, each once")
        if min(self.seeds, self.orders) < 1 or self.crossed < 0:
            raise UsageError(f"seeds = {self.seeds}, orders = {self.orders}: one or more of each; crossed from 0 on")
        if self.orders > 1 and self.crossed < 2:
            raise UsageError(
                f"crossed = {self.crossed} examples have one order: set --orders 1, or --crossed 2 or more"
            )
        if self.orders > math.factorial(min(self.crossed, 12)):
            raise UsageError(f"orders = {self.orders}: {self.crossed} examples have {math.factorial(self.crossed)}")
        for frame in self.frames:
            if frame not in FRAMES:
                raise unknown("frame", frame, FRAMES)

    @property
    def plain(self) -> Prompt:
        """The prompt that others are compared with: the first wording, no examples, no frame."""
        return Prompt(wording=self.wordings[0])

    @property
    def curve(self) -> dict[int, list[Prompt]]:
        """The prompts of each number of examples, one a draw."""
        draws = range(self.seeds)
        return {k: [replace(self.plain, shots=k, seed=s) for s in (draws if k else (0,))] for k in self.shots}

    @property
    def grid(self) -> dict[tuple[str, int, int], Prompt]:
        """The crossed prompts, by wording, draw of the examples, and order. Without examples only wordings differ."""
        if not self.crossed:
            return {(wording, 0, 0): Prompt(wording=wording) for wording in self.wordings}
        factors = itertools.product(self.wordings, range(self.seeds), range(self.orders))
        return {(w, s, o): Prompt(wording=w, shots=self.crossed, seed=s, order=o) for w, s, o in factors}

    @property
    def framed(self) -> dict[str, Prompt]:
        """The frames around the plain prompt."""
        return {frame: replace(self.plain, frame=frame) for frame in self.frames if frame != "plain"}

    def asked(self, prompt: Prompt) -> Evaluate:
        """Return the evaluation with a prompt."""
        return Evaluate(self.of, self.task, prompt, self.items, False, self.too_long, self.precision)

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        prompts = [
            self.plain,
            *(p for ps in self.curve.values() for p in ps),
            *self.grid.values(),
            *self.framed.values(),
        ]
        return [self.of, *(self.asked(prompt) for prompt in dict.fromkeys(prompts))]

    def answer(self, done: Mapping[Recipe, Run]) -> dict[str, Any]:
        from etude.studies.sections.prompts_numbers import numbers

        return numbers(self, done)

    def tell(self, done: Mapping[Recipe, Run]) -> Report:
        from etude.studies.sections.prompts_page import page

        return page(self, done)


def named(wording: str) -> str:
    """Return what tables call a wording."""
    return wording if wording in WORDINGS else f"‘{wording[:30]}’"
