"""Recipes of comparing two models by their replies: pairs for a person to judge, and what the person chose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from etude.chat.prompts.base import Prompt
from etude.chat.prompts.none import Nothing
from etude.chat.prompts.short import Short
from etude.core.errors import UsageError
from etude.core.recipe import Estimate, Recipe
from etude.core.run import Run
from etude.core.spec import AUTO, cosmetic
from etude.evals.sites import shape_of
from etude.evals.whole_documents import check_causal
from etude.models.recipes import ModelRecipe
from etude.models.sampling import Sampling
from etude.text.corpora.dialogues import Dialogues
from etude.text.places import sha256_of

REPLY = Sampling(temperature=0.8, max_tokens=48)
"""How a reply is written where nothing else is said."""


@dataclass(frozen=True)
class Pairs(Recipe, kind="pairs", does="etude.chat.pairing:pairs"):
    """Have two models answer the same dialogues, and write a page, `pairs.html`, on which a person chooses between the
    two replies without being told whose is whose; `etude run preferences` counts the choices.

    Both answers end with their first line, since an end that only one of the models has learned would give it away.
    Which side is whose is not in the page: it stands, masked, in `pairs-key.json`. It takes more than a glance to find
    out, but somebody who wants to can.

    Attributes:
        of: the model that is prompted, a decoder.
        tuned: the model tuned on dialogues, which reads no prompt.
        prompt: what the first one reads before each dialogue.
        corpus: dialogues of whose test split the last reply is left out and written anew.
        pairs: how many, chosen by a hash of their text; fewer where there are no more, or where both say the same.
        sampling: how replies are written.
        seed: of the sides and of their order.
    """

    of: ModelRecipe
    tuned: ModelRecipe
    prompt: Prompt = field(default_factory=Short)
    corpus: Dialogues = field(default_factory=Dialogues)
    pairs: int = 30
    sampling: Sampling = REPLY
    seed: int = 0

    def check(self) -> None:
        if self.pairs < 1:
            raise UsageError(f"pairs = {self.pairs}: give 1 or more")
        if self.prompt.story:
            raise UsageError(f"prompt {self.prompt.name} has no turns to answer: choose short, long or none")
        for model in (self.of, self.tuned):
            shape = shape_of(model)
            if shape is not None:
                check_causal(shape.name, "dialogues are")

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.of, self.tuned)

    @property
    def reads(self) -> tuple[Prompt, Prompt]:
        """What each of the two reads first."""
        return replace(self.prompt, one_line=True), Nothing(one_line=True)

    def estimate(self) -> Estimate:
        return Estimate(disk_bytes=1 << 20)


@dataclass(frozen=True)
class Preferences(Recipe, kind="preferences", does="etude.chat.preferring:preferences"):
    """Count what a person chose on the page of a run of pairs: how often the tuned model's reply, the prompted one's,
    or neither. The share of the tuned one is of the pairs that were decided, with Wilson's interval; beside it
    stands the chance that a fair coin is as one-sided.

    It is the judgement of one person: the interval says how it might have come out on other dialogues, not with other
    people.

    Attributes:
        pairs: the run of pairs.
        choices: the file that the page gave. It does not enter the fingerprint: the content does.
        sha256: identity of its content. Left at auto, it is taken from what is there.
    """

    pairs: Pairs
    choices: str = cosmetic("")
    sha256: str = AUTO

    def settle(self) -> Self:
        return self if self.sha256 != AUTO else replace(self, sha256=sha256_of(self.file))

    @property
    def file(self) -> Path:
        """The file.

        Raises:
            UsageError: it is not there.
        """
        path = Path(self.choices).expanduser()
        if not self.choices or not path.is_file():
            raise UsageError(f"no file {self.choices!r}: give what the page wrote with --choices FILE")
        return path
