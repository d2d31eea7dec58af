"""What the drawn tasks share: problems from a seed, splits that no problem crosses, and a known floor."""

from __future__ import annotations

import abc
import hashlib
import math
import random
import string
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from etude.core.errors import UsageError
from etude.core.seeds import stream
from etude.text.corpora.base import Corpus, Document, at_least_one
from etude.text.splits import TRAIN_SHARE, VALID_SHARE, check_split, fraction, split_of

MARK = " > "
"""Stands between a question and its answer."""


@dataclass(frozen=True)
class Problem:
    """One document of a task.

    Attributes:
        question: what cannot be foreseen; it decides the split.
        answer: what follows from it, mark included; nothing where the question is all.
        bits: what the question costs whoever knows how it was drawn: minus log2 of its probability. The answer and the
            end of the document cost nothing more.
    """

    question: str
    answer: str
    bits: float

    @property
    def text(self) -> str:
        return self.question + self.answer


@dataclass(frozen=True)
class Task(Corpus):
    """A task whose problems are drawn one by one and independently from a seed.

    A problem's split is decided by a hash of its question, so that no question of `valid` or `test` is in `train`,
    whatever the seed. That hash cannot be learned: for who does not know it, the floor is that of the undivided draw.

    Attributes:
        seed: which problems.
        problems: how many, in the three splits together; the same one may come twice.
        symbols: how many different symbols there are.
        shortest: least length of a question, in symbols.
        longest: greatest length; each between is as likely.
    """

    most_symbols: ClassVar[int] = 26

    seed: int = 0
    problems: int = 20_000
    symbols: int = 26
    shortest: int = 4
    longest: int = 12

    @abc.abstractmethod
    def draw(self, numbers: random.Random) -> Problem:
        """Return one problem, drawn with the given numbers."""

    @abc.abstractmethod
    def choices(self, length: int) -> int:
        """Return how many questions there are of a length; each is as likely."""

    def check(self) -> None:
        if not 1 <= self.symbols <= self.most_symbols:
            raise UsageError(f"{self.name}.symbols = {self.symbols}: give 1 to {self.most_symbols}")
        if not 1 <= self.shortest <= self.longest:
            raise UsageError(
                f"{self.name}.shortest = {self.shortest} and longest = {self.longest}: give 1 or more, in this order"
            )
        if self.problems < 100:
            raise UsageError(f"{self.name}.problems = {self.problems} may leave a split empty: give at least 100")

    def documents(self, split: str) -> Iterator[Document]:
        check_split(split)
        self.check_identity()
        yield from at_least_one(
            (Document(f"problem {number}", [problem.text]) for number, problem in self.drawn(split)),
            f"the {split} split of {self.name} is empty: there are too few different questions; give more problems,"
            " more symbols or longer ones",
        )

    def drawn(self, split: str) -> Iterator[tuple[int, Problem]]:
        """Yield a split's problems with their numbers."""
        for number in range(self.problems):
            problem = self.problem(number)
            if split_of(fraction(f"{self.name} {problem.question}")) == split:
                yield number, problem

    def problem(self, number: int) -> Problem:
        """Return one problem by its number."""
        return self.draw(random.Random(stream(self.seed, self.name, number)))

    def identity(self) -> str:
        drawn = "\n".join(self.problem(number).text for number in range(3))
        fields = (self.seed, self.problems, self.symbols, self.shortest, self.longest)
        return hashlib.sha256(f"{self.name} {self.version} {fields} {drawn}".encode()).hexdigest()

    def about(self) -> dict[str, Any]:
        return {
            "licence": "Apache-2.0",
            "source": f"Etude's task {self.name}",
            "problems": self.problems,
            "bits_per_document": round(self.entropy(), 6),
        }

    def entropy(self) -> float:
        """Return the entropy of a document in bits: the least loss a document, its end included, that any model that
        knows the rule can have in expectation."""
        return sum(self.bits(length) for length in self.lengths) / len(self.lengths)

    @property
    def lengths(self) -> range:
        """The lengths that are drawn, each as likely."""
        return range(self.shortest, self.longest + 1)

    def bits(self, length: int) -> float:
        """Return minus log2 of the probability of any question of a length."""
        return math.log2(len(self.lengths)) + math.log2(self.choices(length))

    def true_bits_per_byte(self, split: str) -> float:
        """Return the cross-entropy of the true distribution on a split, in bits per UTF-8 byte, as `Fable` does."""
        found = [problem for _, problem in self.drawn(check_split(split))]
        return sum(problem.bits for problem in found) / sum(len(problem.text.encode()) for problem in found)

    def size(self, split: str) -> int:
        some = range(min(self.problems, 200))
        mean = sum(len(self.problem(number).text.encode()) for number in some) / len(some)
        share = TRAIN_SHARE if split == "train" else VALID_SHARE
        return round(mean * share * self.problems)

    def _sequence(self, numbers: random.Random) -> list[int]:
        """Draw a length, and that many symbols, each as likely and anew."""
        return [numbers.randrange(self.symbols) for _ in range(numbers.choice(self.lengths))]


ALPHABET = string.ascii_lowercase + string.ascii_uppercase + string.digits + "+/"
"""Every symbol of one byte that a task may use, in the order it takes them."""


def letters(symbols: list[int], between: str = " ") -> str:
    """Return symbols as letters of the alphabet, with spaces or nothing between."""
    return between.join(ALPHABET[symbol] for symbol in symbols)
