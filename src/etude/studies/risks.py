"""The risk ledger: what was measured of the ways in which a language model can do harm, and what was not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.recipes import BitsPerByte
from etude.evals.risk_recipes import Exposure, GroupTerms, Pronouns
from etude.evals.task_recipes import Evaluate
from etude.evals.tasks.multiple_choice import MultipleChoice
from etude.evals.tasks.perplexity import Perplexity
from etude.evals.tasks.truthfulqa import Truthfulqa
from etude.models.recipes import ModelRecipe, OnText
from etude.report.blocks import Report
from etude.studies.base import Study
from etude.studies.toxicity import Toxicity
from etude.text.corpora.base import Corpus
from etude.text.corpora.canaries import Canaries


@dataclass(frozen=True)
class Risks(Study):
    """Of the 21 risks in 6 areas that Weidinger et al. 2021 list (arXiv 2112.04359, table 1), which are measured on a
    model, and what was found?

    Each risk is measured, not measured, or not measurable here, and the page says of each what its figures do not show.
    Sentences of our own with group terms and pronouns are always read; a model trained on the corpus `canaries` is
    asked for its secrets; the rest needs a file or a run: `--truthfulqa.path FILE`, `--winogender-male.path FILE`,
    `--winogender-female.path FILE`, `--languages multi30k --languages.path FOLDER`, `--groups.path FILE
    --groups.group-field FIELD`, `--toxicity RUN`. Nothing is fetched.

    Energy is not measured: a training records its seconds and what it computed, not what it drew. Where `watts` is
    given, energy, cost and carbon are estimated by multiplying, and called estimates.

    Attributes:
        of: the model, a decoder.
        truthfulqa: TruthfulQA's file.
        winogender_male: Winogender's sentences about men, as questions with choices.
        winogender_female: those about women. Every sentence of either file is read with both pronouns.
        languages: a corpus whose texts come in several languages, as multi30k.
        groups: texts with a field that names the group they are of, or by.
        toxicity: the run of a study of this model's toxicity.
        watts: what the machine draws while it trains; 0 leaves energy out.
        price: of a kilowatt-hour, in your currency.
        carbon: grams of carbon dioxide that a kilowatt-hour stands for where you are.
    """

    of: ModelRecipe
    truthfulqa: Truthfulqa | None = None
    winogender_male: MultipleChoice | None = None
    winogender_female: MultipleChoice | None = None
    languages: Corpus | None = None
    groups: Perplexity | None = None
    toxicity: Toxicity | None = None
    watts: float = 0.0
    price: float = 0.30
    carbon: float = 450.0

    def check(self) -> None:
        if min(self.watts, self.price, self.carbon) < 0:
            raise UsageError(
                f"watts = {self.watts:g}, price = {self.price:g}, carbon = {self.carbon:g}: none is below 0; watts 0"
                " leaves energy out"
            )
        if self.languages is not None and not self.languages.sides:
            raise UsageError(
                f"corpus {self.languages.name} has texts of one language: give one whose texts come in several, as"
                " --languages multi30k"
            )
        if self.groups is not None and not self.groups.group_field:
            raise UsageError("groups has texts and no groups: name the field with --groups.group-field")
        if self.toxicity is not None:
            judged = (*self.toxicity.of, *self.toxicity.tuned)
            if not any(one == self.of or one.resolve() == self.of.resolve() for one in judged):
                raise UsageError("toxicity is of another model: give a run of `etude run toxicity` of this one")
        _ = self.probes  # which check what is handed on

    @property
    def probes(self) -> dict[str, Recipe]:
        """What is run, by name."""
        found: dict[str, Recipe] = {"group-terms": GroupTerms(self.of), "pronouns": Pronouns(self.of)}
        files = {"winogender-male": self.winogender_male, "winogender-female": self.winogender_female}
        found |= {name: Pronouns(self.of, task) for name, task in files.items() if task is not None}
        if isinstance(self.of.text.corpus, Canaries):
            found["exposure"] = Exposure(self.of)
        if self.truthfulqa is not None:
            found["truthfulqa"] = Evaluate(self.of, self.truthfulqa, too_long="leave-out")
        if self.languages is not None:
            found["languages"] = BitsPerByte(OnText(self.of, self.languages), "test")
        if self.groups is not None:
            found["groups"] = Evaluate(self.of, self.groups)
        if self.toxicity is not None:
            found["toxicity"] = self.toxicity
        return found

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        texts = [] if self.languages is None else [OnText(self.of, self.languages).text]
        return (self.of, *texts, *self.probes.values())

    def answer(self, done: Mapping[Recipe, Run]) -> dict[str, Any]:
        from etude.studies.sections.risks_numbers import numbers

        return numbers(self, done)

    def tell(self, done: Mapping[Recipe, Run]) -> Report:
        from etude.studies.sections.risks_page import page

        return page(self, done)
