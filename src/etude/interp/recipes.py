"""Recipes of looking inside."""

from __future__ import annotations

from dataclasses import dataclass

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.models.recipes import ModelRecipe


@dataclass(frozen=True)
class Patterns(Recipe, kind="patterns", does="etude.interp.work:patterns"):
    """Read what every head attends to on a text. It runs on the CPU, as every instrument does.

    Attributes:
        of: the model.
        text: what it reads; of a text longer than its context, the beginning. An encoder reads it framed, as when it
            was trained on documents; an encoder-decoder is read as it writes it.
        source: what an encoder-decoder reads to write the text; nothing for any other model.
    """

    of: ModelRecipe
    text: str = "The cat sat on the mat. The cat sat on the mat."
    source: str = ""

    def check(self) -> None:
        if not self.text.strip():
            raise UsageError('the text is empty; give one with --text "…"')
        wrong = next((c for c in self.text + self.source if "\ud800" <= c <= "\udfff"), None)
        if wrong is not None:  # what a shell hands over for a byte that it cannot read
            raise UsageError(f"the text has {wrong!r}, which is not UTF-8; give --text in UTF-8")
