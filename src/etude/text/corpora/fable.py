"""Short fables drawn from a grammar of our own, whose true entropy is known."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from etude.core.errors import UsageError
from etude.text.corpora._fable_story import FABLE, REGULARITIES, Regularity
from etude.text.corpora.base import Corpus, Document
from etude.text.grammar import Grammar, Span
from etude.text.splits import check_split


@dataclass(frozen=True)
class Fable(Corpus):
    """Stories drawn one by one and independently from a grammar with exact probabilities, so that it is known how well
    the best possible model predicts them, and with planted regularities to look for inside a model.

    Of every twenty stories the last two are `valid` and `test`; more stories only add to each split.

    Attributes:
        seed: which stories.
        stories: how many, in the three splits together, each about 630 bytes.
    """

    grammar: ClassVar[Grammar] = FABLE
    regularities: ClassVar[tuple[Regularity, ...]] = REGULARITIES

    seed: int = 0
    stories: int = 10_000

    def check(self) -> None:
        if self.stories < 20:
            raise UsageError(f"fable.stories = {self.stories} leaves a split empty: give at least 20")

    def documents(self, split: str) -> Iterator[Document]:
        self.check_identity()
        for number in self._numbers(split):
            yield Document(f"story {number}", [self.story(number)])

    def story(self, number: int) -> str:
        """Return one story."""
        return self.grammar.draw(f"fable {self.seed} {number}")

    def identity(self) -> str:
        # The words, their chances and the first stories: a change to the grammar or to how it is drawn shows in them.
        drawn = "".join(self.story(number) for number in range(3))
        return hashlib.sha256(f"{self.grammar!r} {self.seed} {self.stories} {drawn}".encode()).hexdigest()

    def about(self) -> dict[str, Any]:
        return {
            "licence": "Apache-2.0",
            "source": "Etude's grammar of fables",
            "stories": self.stories,
            "bits_per_story": round(self.grammar.entropy(), 6),
            "bits_per_byte": round(self.grammar.entropy() / self.grammar.mean_bytes(), 6),
        }

    def size(self, split: str) -> int:
        return round(self.grammar.mean_bytes() * len(self._numbers(split)))

    def log_probability(self, text: str) -> float:
        """Return the natural logarithm of a story's probability, minus infinity for a text that is none. The end of the
        text is part of the story: after its last character nothing else can come."""
        return self.grammar.log_probability(text)

    def spans(self, text: str) -> list[Span]:
        """Return where a story's slots stand and what each costs in bits (see `Grammar.spans`)."""
        return self.grammar.spans(text)

    def true_bits_per_byte(self, split: str) -> float:
        """Return the cross-entropy of the true distribution on a split, in bits per UTF-8 byte.

        No model does better in expectation over splits; on one split another model can be lower by chance, by less the
        more stories there are. A model that sees a window which does not begin at a story's start has a harder task.
        """
        bits, size = 0.0, 0
        for number in self._numbers(split):
            text = self.story(number)
            bits -= self.log_probability(text) / math.log(2)
            size += len(text.encode())
        return bits / size

    def _numbers(self, split: str) -> list[int]:
        wanted = {"valid": (18,), "test": (19,)}.get(check_split(split), range(18))
        return [number for number in range(self.stories) if number % 20 in wanted]
