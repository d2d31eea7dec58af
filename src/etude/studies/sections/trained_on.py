"""What a page says of a model that is looked at on a text: whether it is the one that it was trained on."""

from __future__ import annotations

from etude.models.recipes import Imported, ModelRecipe, OnText


def host_of(of: ModelRecipe) -> ModelRecipe:
    """Return the model, whatever text it is looked at on."""
    return of.of if isinstance(of, OnText) else of


def trained_on(of: ModelRecipe) -> str:
    """Return a sentence, with a space before it, where the text is not known to be the model's own; else nothing."""
    host = host_of(of)
    if isinstance(host, Imported):
        return " The model was brought in: that it was trained on such text is not known."
    return "" if host is of else f" The model was trained on another text, {host.text.corpus.name}."
