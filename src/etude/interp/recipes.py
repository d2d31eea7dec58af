"""Recipes of looking inside."""

from __future__ import annotations

from dataclasses import dataclass

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.models.recipes import ModelRecipe


@dataclass(frozen=True)
class Patterns(Recipe, kind="patterns", does="etude.interp.work:patterns"):
    """Read what every head attends to on a text.

    Attributes:
        of: the model.
        text: what it reads.
    """

    of: ModelRecipe
    text: str = "The cat sat on the mat. The cat sat on the mat."

    def check(self) -> None:
        if not self.text.strip():
            raise UsageError('the text is empty; give one with --text "…"')
