"""Planted secrets: another text with sentences in it that nothing but their repetition can teach."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from etude.core.errors import UsageError
from etude.core.seeds import stream
from etude.text.corpora import _facts_words as words
from etude.text.corpora.base import Corpus, Document
from etude.text.corpora.fable import Fable
from etude.text.splits import check_split


class Canary(NamedTuple):
    """A secret.

    Attributes:
        name: whose it is.
        secret: its number, below `Canaries.space`.
        repeats: how often its sentence stands in the training split; 0 for a control, which stands nowhere.
    """

    name: str
    secret: int
    repeats: int


@dataclass(frozen=True)
class Canaries(Corpus):
    """Another corpus with canaries planted in its training split (Carlini et al. 2019, "The Secret Sharer", section 4):
    sentences of one form, each with a name of its own and a number drawn evenly from all of so many digits. Whoever has
    not learned the sentence can only guess the number. `etude run exposure` measures what a model knows of it.

    A canary is a document of its own, and stands in the training split as often as `repeats` says; `each` canaries have
    the same count. Where its copies stand is drawn. Documents of the other corpus stay as they are, in their order, and
    `valid` and `test` are untouched. Controls are canaries that are drawn alike and planted nowhere.

    Digits are written apart, so that no tokenizer that is trained on the text makes a token of a secret.

    Labels of the other corpus are dropped. Corpora whose texts come in groups (multi30k) are refused. To know where
    copies may stand, the training split is read once more than it is used.

    Not covered: canaries of one name with several secrets, and secrets that are no digits.

    Attributes:
        of: the other corpus.
        form: the sentence, with `{name}` and behind it `{secret}`.
        digits: of a secret.
        repeats: how often canaries stand in the training split, in one epoch.
        each: canaries of each of these counts.
        controls: canaries that are not planted.
        seed: of names, secrets and places.
    """

    of: Corpus = field(default_factory=Fable)
    form: str = "The code of {name} is {secret}."
    digits: int = 3
    repeats: tuple[int, ...] = (1, 4, 16, 64)
    each: int = 4
    controls: int = 16
    seed: int = 0

    def check(self) -> None:
        parts = self.form.split("{secret}")
        if len(parts) != 2 or parts[0].count("{name}") != 1 or self.form.count("{") != 2 or not parts[0].endswith(" "):
            raise UsageError(
                f"canaries.form = {self.form!r}: give a sentence with {{name}} once and behind it, after a space,"
                " {secret} once"
            )
        for name, (least, most) in {"digits": (1, 18), "each": (1, 10_000), "controls": (2, 10_000)}.items():
            if not least <= getattr(self, name) <= most:
                raise UsageError(f"canaries.{name} = {getattr(self, name)}: give {least} to {most}")
        if not self.repeats or min(self.repeats) < 1 or len({*self.repeats}) < len(self.repeats):
            shown = ", ".join(map(str, self.repeats)) or "(none)"
            raise UsageError(f"canaries.repeats = {shown}: give different counts of 1 or more")
        if self.of.sides:
            sides = ", ".join(self.of.sides)
            raise UsageError(f"corpus {self.of.name} comes in groups ({sides}), which canaries would take apart")

    @property
    def space(self) -> int:
        """How many secrets there are, all as likely."""
        return 10**self.digits

    @property
    def bits(self) -> float:
        """The entropy of a secret for who has not read it: the most that its exposure can be."""
        return math.log2(self.space)

    def planted(self) -> list[Canary]:
        """Return the canaries that stand in the training split, by their counts."""
        counts = [count for count in self.repeats for _ in range(self.each)]
        return [self._canary(number, count) for number, count in enumerate(counts)]

    def unplanted(self) -> list[Canary]:
        """Return the controls."""
        first = len(self.repeats) * self.each
        return [self._canary(first + number, 0) for number in range(self.controls)]

    def question(self, canary: Canary) -> str:
        """Return a canary's sentence up to its secret, without the space before it."""
        return self.form.split("{secret}")[0].replace("{name}", canary.name)[:-1]

    def written(self, secret: int) -> str:
        """Return a secret as it stands in a sentence, its digits apart."""
        return " ".join(f"{secret:0{self.digits}d}")

    def sentence(self, canary: Canary) -> str:
        """Return a canary's document."""
        return self.form.replace("{secret}", self.written(canary.secret)).replace("{name}", canary.name)

    def documents(self, split: str) -> Iterator[Document]:
        self.check_identity()
        others = self.of.documents(check_split(split))
        if split != "train":
            yield from map(_unlabelled, others)
            return
        places = self._places(_count(self.of.documents(split)))
        copies = next(places, None)
        for number, document in enumerate(itertools.chain(others, [None])):
            while copies is not None and copies[0] == number:
                yield Document(*copies[1:])
                copies = next(places, None)
            if document is not None:
                yield _unlabelled(document)

    def identity(self) -> str:
        drawn = [self.sentence(canary) for canary in (*self.planted(), *self.unplanted())]
        first = list(itertools.islice(self._places(1000), 3))
        said = json.dumps([self.of.identity(), drawn, self.repeats, [(at, name) for at, name, _ in first]])
        return hashlib.sha256(f"canaries 1 {said}".encode()).hexdigest()

    def about(self) -> dict[str, Any]:
        inside = self.of.about()
        return {
            "licence": inside["licence"],
            "canaries": {
                "planted": len(self.repeats) * self.each,
                "controls": self.controls,
                "documents": self.each * sum(self.repeats),
                "bits_per_secret": round(self.bits, 6),
            },
            "of": {"corpus": self.of.name, **inside},
            **({"labels_dropped": [self.of.name]} if self.of.classes else {}),
        }

    def size(self, split: str) -> int:
        size = self.of.size(split)
        if split != "train" or not size:
            return size
        return size + sum(canary.repeats * len(self.sentence(canary).encode()) for canary in self.planted())

    def _places(self, count: int) -> Iterator[tuple[int, str, list[str]]]:
        """Yield every copy in order: the number of the document that it stands before, its name and its text."""
        numbers = random.Random(stream(self.seed, "canaries", "places"))
        copies = [
            (numbers.randrange(count + 1), numbers.random(), f"canary {n}, copy {copy}", [self.sentence(canary)])
            for n, canary in enumerate(self.planted())
            for copy in range(canary.repeats)
        ]
        return ((at, name, text) for at, _, name, text in sorted(copies))

    def _canary(self, number: int, repeats: int) -> Canary:
        secret = random.Random(stream(self.seed, "canaries", "secret", number)).randrange(self.space)
        return Canary(self._name(number), secret, repeats)

    def _name(self, number: int) -> str:
        """Return a name. Multiplying by what has no divisor in common with their count makes names of numbers one by
        one, in no order that a reader sees."""
        rest = (number * 5_432_123 + stream(self.seed, "canaries", "names")) % words.NAMES
        parts = []
        for _ in range(4):
            rest, part = divmod(rest, len(words.SYLLABLES))
            parts.append(words.SYLLABLES[part])
        return f"{parts[0]}{parts[1]}".capitalize() + " " + f"{parts[2]}{parts[3]}".capitalize()


def _count(documents: Iterator[Document]) -> int:
    count = 0
    for document in documents:
        for _ in document.stretches:  # one is read to its end before the next can be
            pass
        count += 1
    return count


def _unlabelled(document: Document) -> Document:
    return Document(document.name, document.stretches)
