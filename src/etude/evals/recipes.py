"""Recipes of evaluation: baselines on a corpus, and what a model's heads do."""

from __future__ import annotations

from dataclasses import dataclass, field

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.models.recipes import ModelRecipe
from etude.text.recipes import Tokens


@dataclass(frozen=True)
class Baselines(Recipe, kind="baselines", does="etude.evals.work:baselines"):
    """Score the uniform, unigram and bigram models of a corpus on the windows that a model is scored on.

    Attributes:
        data: the corpus and its tokens.
        context: positions in a window, as the model has it.
        evaluate_tokens: tokens of the validation split to read; 0 all of it.
    """

    data: Tokens = field(default_factory=Tokens)
    context: int = 128
    evaluate_tokens: int = 65536

    def check(self) -> None:
        for name, least in {"context": 1, "evaluate_tokens": 0}.items():
            if getattr(self, name) < least:
                raise UsageError(f"{name} = {getattr(self, name)} is too small: it is {least} or more")


@dataclass(frozen=True)
class Heads(Recipe, kind="heads", does="etude.evals.work:heads"):
    """Score each head of a model for previous-token and induction attention on repeated random sequences.

    It runs on the CPU, as every instrument does: only a training has a device.

    Attributes:
        of: the model.
        sequences: how many random sequences.
        seed: of the sequences.
    """

    of: ModelRecipe
    sequences: int = 128
    seed: int = 0

    def check(self) -> None:
        if self.sequences < 1:
            raise UsageError(f"sequences = {self.sequences} is too small: it is 1 or more")
