"""What the Gopher report did for one family of models (Rae et al. 2021), for any family: tasks, dialogue and toxicity
against scale, on one page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from etude.chat.choices import SHORT
from etude.chat.prompts.base import Prompt as ChatPrompt
from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.judge_recipes import davidson
from etude.evals.listed import Listed
from etude.evals.prompting import Prompt
from etude.evals.tasks.reply_choice import ReplyChoice
from etude.models.recipes import ModelRecipe
from etude.models.sampling import Sampling
from etude.report.blocks import Report
from etude.studies.base import Study
from etude.studies.dialogue import Dialogue
from etude.studies.family import Family
from etude.studies.toxicity import Toxicity
from etude.text.corpora.dialogues import Dialogues
from etude.text.corpora.labelled import Labelled


@dataclass(frozen=True)
class Gopher(Study):
    """What does scale bring a family of models: on which tasks, in dialogue by prompt and by tuning, and in the
    toxicity of what they write?

    Attributes:
        of: the models, at least two of different sizes, trained on the same tokens.
        tasks: files of items, a folder of them, CATEGORY:FILE, or a JSON file with the files of each category.
        prompt: how items are put.
        items: of each task at most so many; 0 is all.
        corpus: dialogues that each model is tuned on.
        choices: rows of DailyDialog++ with good and bad replies, apart from those of the training split.
        steps: of tuning.
        replies: held-out dialogues that are asked, at most.
        talk: the dialogue prompt.
        labelled: the labelled set that a judge of toxicity is fitted to.
        toxic: its classes that count as toxic.
        others: labelled sets that the judge is tried on too.
        prompts: texts that each model goes on from, to be judged.
        each: continuations of each.
        pairs: replies of the largest model, prompted and tuned, for a person to choose between; 0 for none.
    """

    of: tuple[ModelRecipe, ...]
    tasks: tuple[Listed, ...]
    prompt: Prompt = field(default_factory=Prompt)
    items: int = 200
    corpus: Dialogues = field(default_factory=Dialogues)
    choices: ReplyChoice | None = None
    steps: int = 200
    replies: int = 300
    talk: ChatPrompt = SHORT
    labelled: Labelled = field(default_factory=davidson)
    toxic: tuple[str, ...] = ("hate", "offensive")
    others: tuple[Labelled, ...] = ()
    prompts: int = 100
    each: int = 3
    pairs: int = 20

    def check(self) -> None:
        if self.pairs < 0:
            raise UsageError(f"pairs = {self.pairs}: give 0 for none, or how many")
        _ = self.asked, self.talks, self.toxicity  # which check what is handed on

    @property
    def asked(self) -> Family:
        """The tasks."""
        return Family(self.of, self.tasks, self.prompt, self.items)

    @property
    def largest(self) -> ModelRecipe:
        """The largest model, as far as shapes are known before anything is brought in; else the one named last."""
        shapes = [(of.shape, of.text.tokenizer.expected_vocabulary()) for of in self.of]
        sizes = [0 if shape is None else shape.parameters(vocabulary) for shape, vocabulary in shapes]
        return max(zip(sizes, range(len(sizes)), self.of, strict=True), key=lambda one: one[:2])[2]

    @property
    def talks(self) -> list[Dialogue]:
        """The dialogues, of each model."""
        return [
            Dialogue(
                of,
                corpus=self.corpus,
                prompt=self.talk,
                choices=self.choices,
                steps=self.steps,
                items=self.replies,
                pairs=self.pairs if of == self.largest else 0,
            )
            for of in self.of
        ]

    @property
    def toxicity(self) -> Toxicity:
        """The toxicity of what each model writes, as it is, prompted and tuned."""
        return Toxicity(
            self.of,
            tuple(talk.model for talk in self.talks),
            self.labelled,
            self.toxic,
            others=self.others,
            prompt=self.talk,
            prompts=self.prompts,
            each=self.each,
            sampling=Sampling(max_tokens=20),
        )

    @property
    def studies(self) -> list[Study]:
        """Everything that is asked."""
        return [self.asked, *self.talks, self.toxicity]

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return list(dict.fromkeys(recipe for study in self.studies for recipe in study.plan(done)))

    def answer(self, done: Mapping[Recipe, Run]) -> dict[str, Any]:
        return {
            "tasks": self.asked.answer(done),
            "dialogue": [{"of": done[talk.of].id, **talk.answer(done)} for talk in self.talks],
            "toxicity": self.toxicity.answer(done),
        }

    def tell(self, done: Mapping[Recipe, Run]) -> Report:
        from etude.studies.sections.gopher_page import page

        return page(self, done)
