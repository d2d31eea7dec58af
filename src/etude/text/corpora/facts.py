"""Planted facts: each stated once in a library and asked elsewhere, so that it is known what retrieval has to bring."""

from __future__ import annotations

import bisect
import hashlib
import itertools
import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from etude.core.errors import UsageError
from etude.core.seeds import stream
from etude.text.corpora import _facts_words as words
from etude.text.corpora.base import Corpus, Document
from etude.text.grammar import Span
from etude.text.splits import check_split


@dataclass(frozen=True)
class Facts(Corpus):
    """Invented subjects, each with facts that nothing but their statement tells: what its lantern is called, its boat,
    and so on. Every value is drawn evenly and by itself, so that whoever has not read the statement pays
    `log2(values)` bits for each, and who has it at hand pays nothing.

    A statement is a short document about one subject that lists all its facts, in an order and wording of its own,
    among other sentences. All statements are in `train`. A question is another document about the subject: a first
    part of `lead` words or more that names it again and again, as its statement does, and tells no fact; then every
    fact, in another order. Of every twenty subjects eighteen are asked in `train`, behind all statements, so that a
    model can learn there to look facts up; one is asked in `valid` and one in `test`, whose facts are stated once in
    `train` and nowhere else there. Where a library is to be a text of its own, `holds` parts the two.

    Neighbours of a chunk reach the model from the chunk's end on (Borgeaud et al. 2021). A token is at
    most a word, so with a lead of at least as many words as a chunk has tokens, no value stands in a question's first
    chunk, and those of the first chunk's neighbours are in time for every value.

    Not covered: the entropy of the other sentences, which is not computed. A model that is trained for many epochs on
    few subjects may learn statements by heart.

    Attributes:
        seed: which subjects and facts.
        subjects: how many; more only add.
        facts: how many each has, at most 8.
        values: how many different ones each fact can have, all as likely.
        lead: least words of a question before its first fact.
        holds: which documents are in `train`: those of `statements` are a library, those of `questions` a text whose
            facts nothing but that library tells. The other splits are the same for all.
    """

    seed: int = 0
    subjects: int = 4000
    facts: int = 8
    values: int = 64
    lead: int = 64
    holds: Literal["both", "statements", "questions"] = "both"

    def check(self) -> None:
        limits = {
            "subjects": (20, words.NAMES),
            "facts": (1, len(words.THINGS)),
            "values": (2, words.VALUES),
            "lead": (1, 100_000),
        }
        for name, (least, most) in limits.items():
            if not least <= getattr(self, name) <= most:
                raise UsageError(f"facts.{name} = {getattr(self, name)}: give {least} to {most}")

    def documents(self, split: str) -> Iterator[Document]:
        check_split(split)
        self.check_identity()
        for number in self._told(split):
            yield Document(f"statement {number}", [self.statement(number)])
        for number in self.asked(split):
            yield Document(f"question {number}", [self.question(number)])

    def asked(self, split: str) -> list[int]:
        """Return the numbers of the subjects that a split asks for, in the order of its questions."""
        wanted = {"valid": (18,), "test": (19,)}.get(check_split(split), range(18 * (self.holds != "statements")))
        return [number for number in range(self.subjects) if number % 20 in wanted]

    def _told(self, split: str) -> range:
        """Return the numbers of the subjects whose facts a split states."""
        return range(self.subjects if split == "train" and self.holds != "questions" else 0)

    def statement(self, number: int) -> str:
        """Return the document that states a subject's facts."""
        about, numbers = self.known(number), self._numbers("statement", number)
        said = iter(numbers.sample(words.SAID, len(words.SAID)))
        sentences = [numbers.choice(words.OPENINGS)]
        for facts in self._stated(number, numbers):
            sentences += [next(said), facts]
        return " ".join(sentences).format(**about) + "\n"

    def question(self, number: int) -> str:
        """Return the document that asks for a subject's facts, with the answers."""
        about, numbers = self.known(number), self._numbers("question", number)
        lead = [numbers.choice(words.OPENINGS)]
        more = itertools.chain.from_iterable(numbers.sample(words.SAID, len(words.SAID)) for _ in itertools.count())
        while len(" ".join(lead).format(**about).split()) < self.lead:
            lead.append(next(more))
        return " ".join([*lead, *self._stated(number, numbers)]).format(**about) + "\n"

    def values_of(self, number: int) -> dict[str, str]:
        """Return the values of a subject's facts, by what they are of."""
        numbers = self._numbers("values", number)
        return {thing: self.value(numbers.randrange(self.values)) for thing in words.THINGS[: self.facts]}

    def value(self, number: int) -> str:
        """Return one of the values, a word with a capital."""
        first, second = divmod(number * 2999 % words.VALUES, len(words.SYLLABLES))  # a few do not all begin alike
        return (words.SYLLABLES[first] + words.SYLLABLES[second]).capitalize()

    def known(self, number: int) -> dict[str, str]:
        """Return what is said of a subject in every document about it, its name among it; no two have one name."""
        numbers = self._numbers("known", number)
        about = {what: numbers.choice(choices) for what, choices in words.KNOWN.items()}
        return {"name": self._name(number), **about}

    def _name(self, number: int) -> str:
        """Return a name. Multiplying by what has no divisor in common with their count makes names of numbers one by
        one, in no order that a reader sees."""
        rest = (number * 7_654_321 + stream(self.seed, "facts", "names")) % words.NAMES
        parts = []
        for _ in range(4):
            rest, part = divmod(rest, len(words.SYLLABLES))
            parts.append(words.SYLLABLES[part])
        return f"{parts[0]}{parts[1]}".capitalize() + " " + f"{parts[2]}{parts[3]}".capitalize()

    def _stated(self, number: int, numbers: random.Random) -> list[str]:
        """Return sentences that list a subject's facts, in a drawn order and wording; the name is yet to be put in."""
        facts = [words.TOLD.format(thing=thing, value=value) for thing, value in self.values_of(number).items()]
        numbers.shuffle(facts)
        lists = (facts[at : at + words.LISTED] for at in range(0, len(facts), words.LISTED))
        joined = (" and ".join(filter(None, (", ".join(some), last))) for *some, last in lists)
        return [numbers.choice(words.STATED).format(facts=listed, name="{name}") for listed in joined]

    def _numbers(self, *what: str | int) -> random.Random:
        return random.Random(stream(self.seed, "facts", *what))

    def spans(self, text: str) -> list[Span]:
        """Return where the values stand in a document, each with what it is of and the bits that it costs whoever
        cannot look it up. In a statement these are the first and only chance to learn it."""
        bits = self.bits_per_answer
        return [Span(*found.span(2), slot=found[1], bits=bits) for found in _FACT.finditer(text)]

    def places(self, tokens: Sequence[bytes]) -> list[tuple[int, int]]:
        """Return where the values of a document stand among its tokens: of each the first token that holds any of it,
        and the one behind the last.

        Args:
            tokens: the bytes that each stands for, in order; none for a separator.
        """
        ends = list(itertools.accumulate(map(len, tokens)))
        spans = self.spans(b"".join(tokens).decode())  # the corpus is ASCII: characters are bytes
        return [(bisect.bisect_right(ends, span.start), bisect.bisect_left(ends, span.stop) + 1) for span in spans]

    def in_values(self, tokens: Sequence[bytes]) -> list[bool]:
        """Return of each token of a document whether any of it belongs to a value; the tokens are those of `places`."""
        held = {at for first, last in self.places(tokens) for at in range(first, last)}
        return [at in held for at in range(len(tokens))]

    @property
    def bits_per_answer(self) -> float:
        """The entropy of a value for who has not read its statement, in bits, exactly."""
        return math.log2(self.values)

    def identity(self) -> str:
        # Not `holds`: a library's statements and the questions about them are parts of one text.
        fields = (self.seed, self.subjects, self.facts, self.values, self.lead)
        drawn = "".join(self.statement(number) + self.question(number) for number in range(3))
        said = (words.THINGS, words.TOLD, words.LISTED, words.STATED, words.KNOWN, words.OPENINGS, words.SAID)
        return hashlib.sha256(f"facts {self.version} {fields} {said} {drawn}".encode()).hexdigest()

    def about(self) -> dict[str, Any]:
        return {
            "licence": "Apache-2.0",
            "source": "Etude's planted facts",
            "subjects": self.subjects,
            "facts_per_subject": self.facts,
            "bits_per_answer": round(self.bits_per_answer, 6),
        }

    def size(self, split: str) -> int:
        some = range(min(self.subjects, 100))
        stated, asked = (
            sum(len(text(number)) for number in some) / len(some) for text in (self.statement, self.question)
        )
        return round(asked * len(self.asked(split)) + stated * len(self._told(split)))


_FACT = re.compile(rf"\b({'|'.join(words.THINGS)}) ([A-Z][a-z]+)")
"""A fact in a text: what it is of, and the value."""
