"""What a model's size has to do with the toxicity of what it writes (the design of Rae et al. 2021, section 5.1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from etude.chat.choices import SHORT
from etude.chat.prompts.base import Prompt as ChatPrompt
from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.judge_recipes import Continuations, Judge, davidson
from etude.evals.paired_replies import FILE
from etude.evals.prompting import Prompt
from etude.evals.task_recipes import Evaluate
from etude.evals.tasks.multiple_choice import MultipleChoice
from etude.models.recipes import ModelRecipe
from etude.models.sampling import Sampling
from etude.report.blocks import Report
from etude.studies.base import Study
from etude.text.corpora.labelled import Labelled

VANILLA, PROMPTED, TUNED = "vanilla", "prompted", "tuned"


@dataclass(frozen=True)
class Toxicity(Study):
    """How does the toxicity of what models write depend on their size, on a dialogue prompt, on tuning, and on the
    toxicity of what they go on from; and what is the judge of it worth?

    `vanilla` models go on from the prompt alone. `prompted` ones read a dialogue prompt first, and the prompt as a
    user's turn; `tuned` ones read it as a user's turn alone.

    Attributes:
        of: the models, of several sizes.
        tuned: models tuned to dialogue.
        labelled: the labelled set that a judge is fitted to, and whose test split the prompts are taken from. The
            columns are by default those of Davidson et al. 2017.
        toxic: its classes that count as toxic, and those of the other sets.
        by: an encoder trained on a labelled set, as a judge in place of one fitted here.
        others: labelled sets that the judge is tried on: files, or JSON with their columns.
        prompt: the dialogue prompt.
        prompts: how many texts are gone on from.
        each: continuations of each.
        bins: of the prompts' toxicity.
        words: the most that are taken of a text.
        sampling: how continuations are written.
        examples: continuations that the page shows.
        masked: whether the letters of their words are hidden, all but the first.
    """

    of: tuple[ModelRecipe, ...] = ()
    tuned: tuple[ModelRecipe, ...] = ()
    labelled: Labelled = field(default_factory=davidson)
    toxic: tuple[str, ...] = ("hate", "offensive")
    by: ModelRecipe | None = None
    others: tuple[Labelled, ...] = ()
    prompt: ChatPrompt = SHORT
    prompts: int = 200
    each: int = 5
    bins: int = 4
    words: int = 20
    sampling: Sampling = field(default_factory=lambda: Sampling(max_tokens=20))
    examples: int = 6
    masked: bool = True

    def check(self) -> None:
        if not self.of:
            raise UsageError("there is nobody to judge: give models with --of RUN, or several")
        for name in ("of", "tuned"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise UsageError(f"{name} names a model twice: give each once")
        if self.examples < 0:
            raise UsageError(f"examples = {self.examples} is below 0")
        _ = self.judge, [self.written(*one) for one in self.members]  # which check what is handed on

    @property
    def members(self) -> list[tuple[str, ModelRecipe]]:
        """Each model in each condition that it is seen in."""
        held = {VANILLA: self.of, PROMPTED: self.of, TUNED: self.tuned}
        return [(condition, model) for condition, models in held.items() for model in models]

    @property
    def judge(self) -> Judge:
        """The judge."""
        return Judge(self.labelled, self.toxic, self.by, self.others)

    def written(self, condition: str, model: ModelRecipe) -> Continuations:
        """Return what a model writes in a condition."""
        asked = Continuations(
            model,
            self.judge,
            prompts=self.prompts,
            each=self.each,
            bins=self.bins,
            words=self.words,
            sampling=self.sampling,
        )
        if condition == VANILLA:
            return asked
        preamble = self.prompt.text if condition == PROMPTED else ""
        if condition == PROMPTED and self.prompt.story:
            return replace(asked, preamble=preamble)
        user, own = self.prompt.marks.user, self.prompt.marks.model
        ends = replace(self.sampling, stop=(*self.sampling.stop, f"\n{user}"))
        return replace(asked, preamble=preamble, around=f"{user} {{prompt}}\n{own}", sampling=ends)

    def replies(self, condition: str, model: ModelRecipe) -> Evaluate:
        """Return what a model makes of paired replies in a condition. All read them as turns."""
        user, own = self.prompt.marks.user, self.prompt.marks.model
        said = self.prompt.text if condition == PROMPTED else ""
        prompt = Prompt(wording=f"{user} {{question}}\n{own}", description=said)
        return Evaluate(model, MultipleChoice(path=str(FILE)), prompt, bare=True)

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        asked = [recipe for one in self.members for recipe in (self.written(*one), self.replies(*one))]
        return dict.fromkeys((*self.judge.needs[::-1], *(model for _, model in self.members), *asked))

    def answer(self, done: Mapping[Recipe, Run]) -> dict[str, Any]:
        from etude.studies.sections.toxicity_numbers import numbers

        return numbers(self, done)

    def tell(self, done: Mapping[Recipe, Run]) -> Report:
        from etude.studies.sections.toxicity_page import page

        return page(self, done)
