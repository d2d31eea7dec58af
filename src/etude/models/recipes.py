"""What every recipe of a model has in common, however the model came to be."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from etude.core.recipe import Recipe
from etude.text.recipes import Tokens


@dataclass(frozen=True)
class ModelRecipe(Recipe):
    """A recipe whose run holds a model and its tokenizer: a training, a checkpoint of one, a model brought in."""

    @property
    @abstractmethod
    def text(self) -> Tokens:
        """The tokens that the model was trained on, and on which instruments look at it."""

    @property
    @abstractmethod
    def context(self) -> int:
        """Positions that the model reads at once."""
