"""What a tokenizer's recipe is: it makes the live tokenizer, by training or by loading."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from etude.core.family import Member
from etude.text.tokenizers.live import Tokenizer


@dataclass(frozen=True)
class TokenizerSpec(Member, abc.ABC):
    """How to make a tokenizer."""

    @abc.abstractmethod
    def build(self, texts: Callable[[], Iterator[str]]) -> Tokenizer:
        """Return the live tokenizer.

        Args:
            texts: gives the pieces of the training split afresh at each call. One that is not trained never calls it.
        """

    @abc.abstractmethod
    def expected_vocabulary(self) -> int:
        """Return how many tokens there will be, before any is made. A trained tokenizer can come out smaller."""
