"""Recipes of judging texts: a classifier with what it is worth, and what a model writes as it sees it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Self

from etude.core.errors import UsageError, unknown
from etude.core.recipe import Estimate, Recipe
from etude.core.run import Run
from etude.core.spec import cosmetic
from etude.evals.sites import shape_of
from etude.models.architectures.encoder import Encoder
from etude.models.recipes import ModelRecipe
from etude.models.sampling import Sampling
from etude.text.corpora.base import Corpus
from etude.text.corpora.labelled import Labelled


def davidson() -> Labelled:
    """Return the columns of Davidson et al. 2017."""
    return Labelled(text_field="tweet", label_field="class", classes=("hate", "offensive", "neither"))


@dataclass(frozen=True)
class Judge(Recipe, kind="judge", does="etude.evals.judge_work:judge"):
    """Fit a classifier of toxic texts to a labelled corpus, or take a trained encoder, and say what it is worth: on the
    test split, on other sets, on texts that mention a group of people, and whether its probabilities can be believed.

    Attributes:
        data: the labelled corpus. The columns are by default those of Davidson et al. 2017.
        toxic: classes that count as toxic, in any of the sets.
        of: an encoder trained on a labelled corpus, which takes that one's place; none fits a logistic regression to
            TF-IDF weights of words, pairs of words and stretches of 2 to 4 letters.
        others: labelled sets that the classifier is tried on beside, whole: files, or JSON with their columns.
        balanced: whether toxic and other texts weigh alike. The share of toxic texts in a set says how it was gathered,
            and not how common they are.
        features: words and pairs, and stretches of letters, at most, the commonest of each.
        least: texts that a feature stands in, at least.
        penalty: on the squared weights; more of it is surer of nothing.
    """

    data: Corpus = field(default_factory=davidson)
    toxic: tuple[str, ...] = ("hate", "offensive")
    of: ModelRecipe | None = None
    others: tuple[Labelled, ...] = ()
    balanced: bool = True
    features: int = 50_000
    least: int = 3
    penalty: float = 1.0

    def check(self) -> None:
        if self.features < 1 or self.least < 1 or self.penalty <= 0:
            raise UsageError(
                f"features = {self.features}, least = {self.least}, penalty = {self.penalty}: give 1 or more of the"
                " first two, and a penalty above 0"
            )
        named = [name for corpus in (self.corpus, *self.others) for name in corpus.classes]
        for name in self.toxic:
            if name not in named:
                raise unknown("class in --toxic", name, dict.fromkeys(named))
        for corpus in (self.corpus, *self.others):
            bad = [name for name in corpus.classes if name in self.toxic]
            if not 0 < len(bad) < len(corpus.classes):
                raise UsageError(
                    f"of the classes {', '.join(corpus.classes) or '(none)'} {', '.join(bad) or 'none'} count as toxic:"
                    " set --toxic so that some do in each set, and some do not"
                )
        shape = None if self.of is None else shape_of(self.of)
        if shape is not None and not (isinstance(shape, Encoder) and shape.classes == len(self.corpus.classes)):
            raise UsageError(
                f"a judge is an encoder with {len(self.corpus.classes)} classes, and this is an {shape.name}: train one"
                " with --objective classification"
            )

    @property
    def corpus(self) -> Corpus:
        """The corpus whose training split the classifier learned from."""
        return self.data if self.of is None else self.of.text.corpus

    def resolve(self) -> Self:
        if self.of is not None and self.data != self.corpus:
            return replace(self, data=self.corpus).resolve()
        return super().resolve()

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return () if self.of is None else (self.of,)

    @property
    def needs(self) -> tuple[Recipe, ...]:
        """This judge, and what whoever asks it has to have beside its run."""
        return (self,) if self.of is None else (self, self.of)

    def estimate(self) -> Estimate:
        return Estimate(disk_bytes=2 * self.features * 64)


@dataclass(frozen=True)
class Continuations(Recipe, kind="continuations", does="etude.evals.continuing:continuations"):
    """Have a model go on from the first halves of labelled texts, and judge what it writes: the mean toxicity, the
    expected greatest of several continuations and the chance that one is toxic (Gehman et al. 2020, section 3), by the
    toxicity of what it went on from.

    Prompts are taken from the test split of the judge's corpus, as many from each bin of the judge's score as there
    are. It runs on the CPU, as every instrument does: only a training has a device.

    Attributes:
        of: the model.
        judge: what scores prompts and continuations.
        preamble: stands before each prompt, with a blank line between: that of a dialogue, say.
        around: is written around each prompt, which stands for `{prompt}`.
        prompts: how many.
        each: continuations of a prompt.
        bins: of the judge's score of the prompt, of equal width.
        words: the most that are taken of a text; a text of fewer than four is left out.
        sampling: how they are written; `max_tokens` is the most of each.
        precision: `fp32`, or `bf16` for products of weights in bf16.
        batch: texts that are written at once. It decides rounding alone.
    """

    of: ModelRecipe
    judge: Judge = field(default_factory=Judge)
    preamble: str = ""
    around: str = "{prompt}"
    prompts: int = 200
    each: int = 5
    bins: int = 4
    words: int = 20
    sampling: Sampling = field(default_factory=lambda: Sampling(max_tokens=20))
    precision: Literal["fp32", "bf16"] = "fp32"
    batch: int = cosmetic(64)

    def check(self) -> None:
        for name, least in {"prompts": 2, "each": 1, "bins": 1, "words": 2, "batch": 1}.items():
            if getattr(self, name) < least:
                raise UsageError(f"{name} = {getattr(self, name)} is too small: it is {least} or more")
        if self.prompts < self.bins:
            raise UsageError(f"prompts = {self.prompts} are fewer than bins = {self.bins}: give one for each, or more")
        if "{prompt}" not in self.around:
            raise UsageError(f"around {self.around[:40]!r} has no {{prompt}} in it: say where the prompt stands")
        if not self.sampling.max_tokens or self.sampling.slide:
            raise UsageError("continuations end: set --sampling.max-tokens, and leave slide out")
        if self.each > 1 and self.sampling.greedy:
            raise UsageError(f"each = {self.each} would be the same: set sampling.temperature above 0, or each to 1")
        shape = shape_of(self.of)
        if shape is not None and shape.name not in ("decoder", "retro"):
            raise UsageError(f"an {shape.name} goes on from no text: choose a decoder")

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return dict.fromkeys((self.of, *self.judge.needs))

    def estimate(self) -> Estimate:
        return Estimate(disk_bytes=self.prompts * (1 + self.each) * 512)
