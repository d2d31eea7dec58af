"""How a question is put: wording, frame, description, and examples before it, all plain data."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from etude.core.errors import UsageError, unknown
from etude.core.seeds import stream
from etude.core.spec import Spec
from etude.evals.items import Choice, Cloze, Item, Passage, Written

SEPARATOR = "\n\n"
"""What stands between the description, the examples and the question."""


class Wording(NamedTuple):
    """How a question and its answers are written.

    Attributes:
        text: with `{question}`, and `{listed}` where the answers are listed in it.
        letters: whether an answer is the letter that it is listed by, and not its own words.
        delimiter: what stands between a question and its answer.
    """

    text: str
    letters: bool = False
    delimiter: str = " "


WORDINGS = {
    "plain": Wording("{question}"),
    "qa": Wording("Q: {question}\nA:"),
    "question": Wording("Question: {question}\nAnswer:"),
    "letters": Wording("{question}\n{listed}\nAnswer:", letters=True),
    "listed": Wording("{question}\n{listed}\nAnswer:"),
    "label": Wording("{question}\nLabel:"),
}
"""Wordings by name. `plain` leaves the question as the file has it."""


class Frame(NamedTuple):
    """What is written around a prompt so that a model that only continues texts takes it for a kind of text.

    Attributes:
        before: stands at the beginning.
        around: of each question, with `{prompt}`.
    """

    before: str = ""
    around: str = "{prompt}"


FRAMES = {
    "plain": Frame(),
    "role": Frame("The following questions were answered by a careful expert, who checked every answer."),
    "dialogue": Frame("A curious visitor talks with a knowledgeable guide.", "Visitor: {prompt}\nGuide:"),
    "story": Frame(
        "In the old library lived a keeper who was never wrong. People came from far away to ask her.",
        'One of them asked: "{prompt}" The keeper answered:',
    ),
    "fill-in": Frame("", "{prompt} ____\nWhat belongs in the blank:"),
}
"""Frames by name: prompt programming in the sense of Reynolds and McDonell 2021, section 4."""


@dataclass(frozen=True)
class Prompt(Spec):
    """How questions are put to a model.

    Attributes:
        wording: a name in `WORDINGS`, or a text with `{question}` (and `{listed}`); nothing is the task's own.
        answers: as the wording has them, or always in their own `words`, where it would list them and have a letter
            given: small models know no letters.
        frame: what is written around each question.
        description: stands before everything else.
        shots: answered examples before the question (Brown et al. 2020, section 2). They are drawn from the task's
            examples where it has some, else from its own items, never the one that is asked.
        seed: which examples are drawn. All questions are shown the same ones.
        order: in which order they stand: 0 as drawn, else permuted by this number.
        opened: whether the token that separates documents stands first, as at the start of a document. Left out, as
            other evaluations have it, a prompt begins as if cut from the middle of a text.
    """

    wording: str = ""
    answers: Literal["worded", "words"] = "worded"
    frame: str = "plain"
    description: str = ""
    shots: int = 0
    seed: int = 0
    order: int = 0
    opened: bool = False

    def check(self) -> None:
        if self.shots < 0 or self.order < 0:
            raise UsageError(f"shots = {self.shots}, order = {self.order}: neither is below 0")
        if self.order >= math.factorial(min(self.shots, 12)):
            orders = math.factorial(self.shots)
            raise UsageError(f"order = {self.order}: {self.shots} examples have {orders}, from 0 to {orders - 1}")
        if self.frame not in FRAMES:
            raise unknown("frame", self.frame, FRAMES)
        if self.wording and self.wording not in WORDINGS:
            _check_wording(self.wording)

    def worded(self, own: str) -> Wording:
        """Return the wording, a task's own where none is named."""
        name = self.wording or own
        wording = WORDINGS.get(name) or Wording(name)
        return WORDINGS["question"] if wording.letters and self.answers == "words" else wording


class Asked(NamedTuple):
    """An item as a model reads it.

    Attributes:
        contexts: what is read: one text, or one for each of the answers.
        answers: what may follow, each with the delimiter before it; none where the model writes.
    """

    contexts: tuple[str, ...]
    answers: tuple[str, ...]

    def pairs(self) -> list[tuple[str, str]]:
        """Return each answer with what is read before it."""
        contexts = self.contexts * len(self.answers) if len(self.contexts) == 1 else self.contexts
        return list(zip(contexts, self.answers, strict=True))


class Prompter:
    """Puts the items of a task.

    Args:
        prompt: how.
        own: the task's own wording.
        items: all that are asked.
        examples: what few-shot prompts show; None draws from the items.

    Raises:
        UsageError: there are not as many examples as shots.
    """

    def __init__(self, prompt: Prompt, own: str, items: Sequence[Item], examples: Sequence[Item] | None = None) -> None:
        self.prompt, self.wording, self.frame = prompt, prompt.worded(own), FRAMES[prompt.frame]
        pool = items if examples is None else examples
        spare = 1 if examples is None else 0  # the item that is asked is not shown
        if prompt.shots and len(pool) < prompt.shots + spare:
            raise UsageError(
                f"shots = {prompt.shots} and there are {len(pool)} items to show"
                f"{', one of which is asked' if spare else ''}: ask for {max(0, len(pool) - spare)} or fewer"
            )
        wanted = prompt.shots + spare if prompt.shots else 0
        self._drawn = [pool[number] for number in _drawn(len(pool), wanted, prompt.seed)]
        self._shown = {item.where: self._show(item) for item in self._drawn}

    def asked(self, item: Item) -> Asked:
        """Return an item as it is read, with description and examples before it."""
        if isinstance(item, Passage):
            return Asked(("",), (item.text,))
        begin = self._beginning(item)
        answers = tuple(self.wording.delimiter + answer for answer in self._answers(item))
        return Asked(tuple(begin + question for question in self._questions(item)), answers)

    def _beginning(self, item: Item) -> str:
        others = [shown for shown in self._drawn if shown.where != item.where][: self.prompt.shots]
        if self.prompt.order:
            others = [others[number] for number in _ordered(len(others), self.prompt.order)]
        shown = [self._shown[other.where] for other in others]
        parts = filter(None, (self.prompt.description, self.frame.before, *shown))
        return "".join(part + SEPARATOR for part in parts)

    def _show(self, item: Item) -> str:
        """Return an item with its answer."""
        if isinstance(item, Passage):
            raise UsageError("a text that is read whole has no examples: set --prompt.shots 0")
        number = item.right[0] if isinstance(item, Choice) else 0
        questions, answers = self._questions(item), self._answers(item, shown=True)
        return questions[number if len(questions) > 1 else 0] + self.wording.delimiter + answers[number]

    def _questions(self, item: Item) -> tuple[str, ...]:
        assert isinstance(item, Choice | Cloze | Written), "a passage asks nothing"
        choices = item.choices if isinstance(item, Choice) else ()
        several = item.questions if isinstance(item, Choice) and item.questions else (item.question,)
        return tuple(self._put(question, choices) for question in several)

    def _put(self, question: str, choices: Sequence[str]) -> str:
        listed = "\n".join(
            f"{letter}. {choice}" for letter, choice in zip(_letters(len(choices)), choices, strict=True)
        )
        worded = _filled(self.wording.text, {"question": question.rstrip(" "), "listed": listed})
        return _filled(self.frame.around, {"prompt": worded}).rstrip(" ")

    def _answers(self, item: Item, shown: bool = False) -> tuple[str, ...]:
        if isinstance(item, Choice):
            if item.questions and (self.wording.letters or "{listed}" in self.wording.text):
                raise UsageError(f"{item.where}: its questions differ and not its answers, which cannot be listed")
            return _letters(len(item.choices)) if self.wording.letters else item.choices
        if isinstance(item, Cloze):
            return (item.continuation,)
        return item.answers[:1] if shown and isinstance(item, Written) else ()


def prompt_hash(asked: Iterable[Asked]) -> str:
    """Return a hash (12 hex) of all that is read and may follow, in order."""
    digest = hashlib.sha256()
    for one in asked:
        for text in (*one.contexts, *one.answers):
            held = text.encode("utf-8", "surrogatepass")
            digest.update(len(held).to_bytes(8, "little") + held)
    return digest.hexdigest()[:12]


def _drawn(pool: int, shots: int, seed: int) -> list[int]:
    """Return which examples are shown. A smaller number of shots shows the first of those that a larger one does."""
    return _permuted(pool, seed, "shots")[:shots]


def _ordered(count: int, order: int) -> tuple[int, ...]:
    """Return the order of a number: all numbers below that of the orders there are give another one, 0 the first."""
    found, draw = dict.fromkeys([tuple(range(count))]), 0
    while len(found) <= order:
        found[tuple(_permuted(count, draw, "order"))] = None
        draw += 1
    return list(found)[order]


def _permuted(count: int, seed: int, name: str) -> list[int]:
    return np.random.Generator(np.random.PCG64(stream(seed, name))).permutation(count).tolist()


def _filled(text: str, parts: Mapping[str, str]) -> str:
    """Put parts into a text at once, so that what looks like a place in one of them stays as it is."""
    return re.sub(r"\{(\w+)\}", lambda found: parts.get(found[1], found[0]), text)


def _letters(count: int) -> tuple[str, ...]:
    letters = string.ascii_uppercase
    names = itertools.chain.from_iterable(
        map("".join, itertools.product(letters, repeat=n)) for n in itertools.count(1)
    )
    return tuple(itertools.islice(names, count))


def _check_wording(text: str) -> None:
    if "{question}" not in text:
        named = ", ".join(WORDINGS)
        raise UsageError(f"wording {text[:40]!r} is neither one of {named} nor a text with {{question}} in it")
