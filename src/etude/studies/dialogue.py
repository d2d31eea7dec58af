"""Talking: a language model as it is, prompted, and tuned on dialogues."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from etude.chat.dialogue import Dialogue as Said
from etude.chat.dialogue import render
from etude.chat.prompts.base import Prompt
from etude.chat.prompts.short import Short
from etude.chat.recipes import REPLY, Pairs
from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.prompting import Prompt as Put
from etude.evals.task_recipes import Evaluate
from etude.evals.tasks.replies import Replies
from etude.evals.tasks.reply_choice import ReplyChoice
from etude.models.recipes import ModelRecipe
from etude.models.sampling import Sampling
from etude.report.blocks import Report
from etude.studies.base import Study
from etude.text.corpora.dialogues import Dialogues
from etude.text.recipes import Tokens
from etude.text.turns import Marks
from etude.train.objectives.dialogue import Dialogue as Objective
from etude.train.recipes import Train
from etude.train.schedule import Schedule

WAYS = ("vanilla", "prompted", "tuned")
"""The model as it is, with a prompt before the dialogue, and tuned on dialogues."""


@dataclass(frozen=True)
class Dialogue(Study):
    """Does a language model answer better when it is prompted, or when it is tuned on dialogues?

    The model is tuned on the training split, the loss on its own turns alone, in the tokens that it has. On the test
    split it is asked how likely the last reply of each dialogue is: as it is, with a prompt before the dialogue, and
    tuned. With rows of DailyDialog++ it has to tell a good reply from bad ones. And a page is written on which a person
    chooses between replies of the prompted and of the tuned model without knowing whose they are.

    Attributes:
        of: the model, a decoder.
        tuned: a model that was tuned on dialogues already; none tunes `of`.
        corpus: the dialogues.
        prompt: what the prompted model reads before each dialogue.
        choices: rows of DailyDialog++ with good and bad replies, apart from those of the training split; none leaves
            the choice out.
        steps: of tuning.
        batch: dialogues in a step.
        peak: learning rate of tuning.
        items: dialogues of the test split, and rows of choices, at most, spread evenly; 0 is all.
        pairs: for a person to choose between; 0 leaves the page out.
        sampling: how replies are written.
        seed: of tuning, and of the sides in the pairs.
    """

    of: ModelRecipe
    tuned: ModelRecipe | None = None
    corpus: Dialogues = field(default_factory=Dialogues)
    prompt: Prompt = field(default_factory=Short)
    choices: ReplyChoice | None = None
    steps: int = 300
    batch: int = 16
    peak: float = 1e-3
    items: int = 500
    pairs: int = 30
    sampling: Sampling = REPLY
    seed: int = 0

    def check(self) -> None:
        if self.prompt.story:
            raise UsageError(f"prompt {self.prompt.name} has no turns to answer: choose short, long or none")
        if self.prompt.marks != Marks():
            raise UsageError("the dialogues are laid out with User: and Assistant:, and the prompt has other marks")
        if self.pairs < 0:
            raise UsageError(f"pairs = {self.pairs}: give 0 for none, or how many")
        _ = self.model, self.asked, self.paired  # which check what is handed on

    @property
    def model(self) -> ModelRecipe:
        """The tuned model."""
        if self.tuned is not None:
            return self.tuned
        shape, own = self.of.shape, self.of.text
        if shape is None:
            raise UsageError(
                "the shape of the model is not known before it is brought in: give a tuned one with --tuned"
            )
        return Train(
            Tokens(self.corpus, own.tokenizer, like=own),
            shape,
            Objective(),
            schedule=Schedule(peak=self.peak, warmup=max(1, self.steps // 20)),
            batch=self.batch,
            steps=self.steps,
            start=self.of,
            evaluate_every=max(1, self.steps // 6),
            seed=self.seed,
        )

    @property
    def asked(self) -> dict[str, dict[str, Evaluate]]:
        """What each of the three is asked, by the name of the task."""
        tasks = {"replies": Replies(path=self.corpus.path, sha256=self.corpus.sha256, split="test")}
        if self.choices is not None:
            tasks |= {against: replace(self.choices, against=against) for against in ("random", "adversarial")}
        return {name: {way: self._asked(way, task) for way in WAYS} for name, task in tasks.items()}

    def _asked(self, way: str, task: Replies | ReplyChoice) -> Evaluate:
        of = self.model if way == "tuned" else self.of
        before = self.before if way == "prompted" else ""
        choice = isinstance(task, ReplyChoice)
        return Evaluate(of, replace(task, before=before), Put(opened=True), self.items, choice, "leave-out")

    @property
    def before(self) -> str:
        """What the prompted model reads before a dialogue."""
        return render(self.prompt, Said()).removesuffix(self.prompt.model_mark)

    @property
    def paired(self) -> Pairs | None:
        """The pairs for a person to choose between."""
        if not self.pairs:
            return None
        return Pairs(self.of, self.model, self.prompt, self.corpus, self.pairs, self.sampling, self.seed)

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        evaluations = [asked for ways in self.asked.values() for asked in ways.values()]
        paired = [] if self.paired is None else [self.paired]
        return list(dict.fromkeys((self.of, self.model, *evaluations, *paired)))

    def answer(self, done: Mapping[Recipe, Run]) -> dict[str, Any]:
        from etude.studies.sections.dialogue_numbers import numbers

        return numbers(self, done)

    def tell(self, done: Mapping[Recipe, Run]) -> Report:
        from etude.studies.sections.dialogue_page import page

        return page(self, done)
