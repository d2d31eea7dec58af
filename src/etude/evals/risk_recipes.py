"""Recipes of what is asked of a model where harm is in question: what it knows of planted secrets, and what changes
where a text names another group, or the other pronoun."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from etude.core.errors import UsageError
from etude.core.recipe import Estimate, Recipe
from etude.core.run import Run
from etude.core.spec import cosmetic
from etude.evals.sites import shape_of
from etude.evals.tasks.multiple_choice import MultipleChoice
from etude.evals.whole_documents import check_causal
from etude.models.recipes import ModelRecipe
from etude.text.corpora.canaries import Canaries


@dataclass(frozen=True)
class Exposure(Recipe, kind="exposure", does="etude.evals.exposure:exposure"):
    """Measure what a model knows of the secrets planted in its training text (Carlini et al. 2019, "The Secret Sharer",
    section 4): each secret's rank by likelihood among all that might stand there, its exposure in bits, and whether the
    model writes it out greedily.

    The text is the corpus `canaries`. A model that was trained on another is asked with `on-text`, and then knows
    nothing of them.

    Where there are more secrets than are compared, so many others are drawn for each canary, and the rank is a plain
    estimate from them: the share that is likelier, with one added above and below. No exposure is then above
    `log2(compared + 1)`. No distribution is fitted to the tail, as Carlini et al. do to see beyond.

    It runs on the CPU, as every instrument does: only a training has a device.

    Attributes:
        of: the model.
        compared: secrets that each is compared with, at most; where there are no more than that, it is all of them and
            the rank is exact.
        seed: of those that are drawn.
        at_once: tokens that are read at once, about. It decides rounding alone.
    """

    of: ModelRecipe
    compared: int = 10_000
    seed: int = 0
    at_once: int = cosmetic(4096)

    def check(self) -> None:
        if self.compared < 1 or self.at_once < 1:
            raise UsageError(f"compared = {self.compared}, at_once = {self.at_once}: each is 1 or more")
        if not isinstance(self.of.text.corpus, Canaries):
            name = self.of.text.corpus.name
            raise UsageError(
                f"exposure is measured on planted secrets, and the text of this model, {name}, has none: train one with"
                f" --data.corpus canaries --data.corpus.of {name}"
            )
        _check_asked(self.of, self.at_once)

    @property
    def corpus(self) -> Canaries:
        """The text in which the secrets are."""
        corpus = self.of.text.corpus
        assert isinstance(corpus, Canaries), "checked above"
        return corpus

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.of,)

    def estimate(self) -> Estimate:
        return Estimate(disk_bytes=1 << 20)


@dataclass(frozen=True)
class GroupTerms(Recipe, kind="group-terms", does="etude.evals.group_terms:group_terms"):
    """Read sentences that differ in nothing but the group that they name, and compare what follows the name, which is
    the same words in each: how many bits a byte they cost, and by how many bits unfavourable words cost more than
    favourable ones. Both are told as differences from the mean over the groups of one kind, paired by sentence.

    The sentences are ours (`etude/evals/group_terms.json`), in English: few, and no sample of what people write.

    It runs on the CPU, as every instrument does: only a training has a device.

    Attributes:
        of: the model.
        at_once: tokens that are read at once, about. It decides rounding alone.
    """

    of: ModelRecipe
    at_once: int = cosmetic(4096)

    def check(self) -> None:
        _check_asked(self.of, self.at_once)

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.of,)

    def estimate(self) -> Estimate:
        return Estimate(disk_bytes=1 << 20)


@dataclass(frozen=True)
class Pronouns(Recipe, kind="pronouns", does="etude.evals.pronouns:pronouns"):
    """Ask whom a pronoun means, once with he and once with she in the very same sentence, and compare the answers
    (Rudinger et al. 2018, "Gender Bias in Coreference Resolution", have such sentences).

    Winogender's files for two genders hold different sentences in their rows, with different right answers; so each
    item is compared with itself, its pronouns changed, and not with a row of the other file.

    It runs on the CPU, as every instrument does: only a training has a device.

    Attributes:
        of: the model.
        task: the sentences, as questions with choices; none takes ours (`etude/evals/pronouns.jsonl`), in English.
        at_once: tokens that are read at once, about. It decides rounding alone.
    """

    of: ModelRecipe
    task: MultipleChoice | None = None
    at_once: int = cosmetic(4096)

    def check(self) -> None:
        _check_asked(self.of, self.at_once)

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.of,)

    def estimate(self) -> Estimate:
        return Estimate(disk_bytes=1 << 20)


def _check_asked(of: ModelRecipe, at_once: int) -> None:
    if at_once < 1:
        raise UsageError(f"at_once = {at_once} is too small: it is 1 or more")
    shape = shape_of(of)
    if shape is not None:
        check_causal(shape.name, "likelihoods are")
