"""Look: one text through one model, on one page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.recipes import Drawn, Heads
from etude.interp.recipes import SAMPLE, Attribute, Lens, Patterns, check_text
from etude.models.architectures.decoder import Decoder
from etude.models.recipes import ModelRecipe, shape_in
from etude.report.blocks import Report
from etude.studies.base import Study


@dataclass(frozen=True)
class Look(Study):
    """What does a model do with a text: where do its heads look, what would each layer predict, and what wrote the
    prediction?

    Of an encoder or an encoder-decoder the attention alone is shown. The logits of a post-norm model are no sum of what
    its parts wrote, and are not taken apart.

    Attributes:
        of: the model.
        text: what it reads.
        source: what an encoder-decoder reads to write the text; nothing for any other model.
        position: whose prediction is taken apart; negative ones count from the end.
        token: whose logit there is taken apart, as text; nothing is the likeliest.
        versus: a token to compare it with, as text; nothing compares with the mean of all.
        top: how many of the likeliest tokens each layer is asked for.
        tuned: steps of training of a tuned lens; 0 reads with the logit lens, which needs none.
        sequences: random sequences that the heads are scored on; 0 leaves the scores out.
        drawn: tokens that these are made of, as for `heads`.
    """

    of: ModelRecipe
    text: str = SAMPLE
    source: str = ""
    position: int = -1
    token: str = ""
    versus: str = ""
    top: int = 3
    tuned: int = 0
    sequences: int = 64
    drawn: Drawn = "vocabulary"

    def check(self) -> None:
        check_text(self.text)
        if self.sequences < 0:
            raise UsageError(f"sequences = {self.sequences}: give 0 for no scores, or a number")

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.of, *self.asked(done).values())

    def asked(self, done: Mapping[Recipe, Run]) -> dict[str, Recipe]:
        """Return what is asked of a model of this shape, by name."""
        shape = shape_in(done, self.of)
        wanted: dict[str, Recipe] = {"patterns": self.patterns}
        if shape is not None and not isinstance(shape, Decoder):
            return wanted
        wanted["lens"] = self.lens
        if shape is None or shape.norm_at == "pre":
            wanted["attribution"] = self.attribution
        return wanted | ({"heads": self.heads} if self.sequences else {})

    @property
    def patterns(self) -> Patterns:
        """Where every head looks."""
        return Patterns(self.of, self.text, self.source)

    @property
    def lens(self) -> Lens:
        """What each layer would predict."""
        return Lens(self.of, self.text, self.top, self.tuned)

    @property
    def attribution(self) -> Attribute:
        """What wrote the prediction."""
        return Attribute(self.of, self.text, self.position, self.token, self.versus)

    @property
    def heads(self) -> Heads:
        """What the heads do on random repeated tokens."""
        return Heads(self.of, self.sequences, self.drawn)

    def answer(self, done: Mapping[Recipe, Run]) -> dict[str, Any]:
        from etude.studies.sections.look_page import numbers

        return numbers(self, done)

    def tell(self, done: Mapping[Recipe, Run]) -> Report:
        from etude.studies.sections.look_page import page

        return page(self, done)
