"""A grammar of texts with exact probabilities: a template with slots, and a distribution for each slot.

Each slot is drawn once, from a distribution that may depend on one earlier slot; where the template mentions it again,
the same words return. So a text's probability is a product of known numbers, the entropy is a sum, and what can be
foreseen in a text, and what cannot, is known word by word.
"""

from __future__ import annotations

import functools
import math
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from etude.core.errors import UsageError

ANY = "*"
"""In a slot's tables: any value of the slot it depends on that has no table of its own."""

_MENTION = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Pick:
    """One slot's distribution.

    Attributes:
        slot: the slot that it fills.
        tables: probabilities of the words, for each value of the slot it depends on, or for ANY other.
        on: the slot it depends on, drawn earlier, or `""` where it depends on none.
    """

    slot: str
    tables: Mapping[str, Mapping[str, float]]
    on: str = ""

    def table(self, value: str) -> Mapping[str, float]:
        """Return the probabilities that hold when the slot it depends on has this value."""
        return self.tables[value] if value in self.tables else self.tables[ANY]


@dataclass(frozen=True)
class Span:
    """A stretch of a text that fills a slot: characters `start` to `stop`.

    `bits` is what the choice of its words costs under the grammar; 0 where they can only be what they are.
    """

    start: int
    stop: int
    slot: str
    bits: float


def zipf(*words: str) -> dict[str, float]:
    """Return probabilities that fall as 1, 1/2, 1/3 and so on."""
    return weighted({word: 1 / rank for rank, word in enumerate(words, 1)})


def even(*words: str) -> dict[str, float]:
    """Return equal probabilities."""
    return weighted(dict.fromkeys(words, 1.0))


def weighted(weights: Mapping[str, float]) -> dict[str, float]:
    """Return the weights as probabilities."""
    total = math.fsum(weights.values())
    return {word: weight / total for word, weight in weights.items()}


def free(slot: str, table: Mapping[str, float]) -> Pick:
    """Return a slot that depends on none."""
    return Pick(slot, {ANY: table})


def follows(slot: str, on: str, words: Mapping[str, str]) -> Pick:
    """Return a slot that another one decides."""
    return Pick(slot, {value: {word: 1.0} for value, word in words.items()}, on)


@dataclass(frozen=True)
class Grammar:
    """A template, in which `{slot}` is a mention, and the distributions of its slots in the order of drawing.

    The template must be unambiguous: from the text it must be plain what was drawn. `choices` relies on it: it takes
    the first reading that fits. (The tests enumerate a small grammar, and read back many drawn texts of the large one.)
    """

    template: str
    picks: tuple[Pick, ...]

    def draw(self, seed: str) -> str:
        """Return the text that a seed gives, the same on every machine and Python."""
        uniform = random.Random(seed).random
        drawn = {"": ""}
        for pick in self.picks:
            drawn[pick.slot] = _draw(pick.table(drawn[pick.on]), uniform())
        return self.render(drawn)

    def render(self, choices: Mapping[str, str]) -> str:
        """Return the text of a choice for each slot."""
        return _MENTION.sub(lambda mention: choices[mention[1]], self.template)

    def choices(self, text: str) -> dict[str, str]:
        """Read a text back: what was chosen for each slot.

        Raises:
            UsageError: the text is not one of the grammar's.
        """
        match = self._pattern.fullmatch(text)
        if match is None:
            raise UsageError(f"not a text of this grammar: {text[:40]!r}")
        return match.groupdict()

    def log_probability(self, text: str) -> float:
        """Return the natural logarithm of a text's probability, and minus infinity for a text that cannot be."""
        try:
            drawn = {"": "", **self.choices(text)}
        except UsageError:
            return -math.inf
        chances = (pick.table(drawn[pick.on]).get(drawn[pick.slot], 0.0) for pick in self.picks)
        return math.fsum(math.log(chance) if chance else -math.inf for chance in chances)

    def spans(self, text: str) -> list[Span]:
        """Return every mention of a slot in a text, in order; the bits add up to the text's own.

        A word's bits are paid at its slot's first mention. Within the word they fall on the letters or tokens that
        tell it from the others; that finer division depends on the tokenizer and is not given here.
        """
        drawn = {"": "", **self.choices(text)}
        chances = {pick.slot: pick.table(drawn[pick.on])[drawn[pick.slot]] for pick in self.picks}
        spans: list[Span] = []
        at = end = 0
        for mention in _MENTION.finditer(self.template):
            at += mention.start() - end
            end, slot = mention.end(), mention[1]
            bits = -math.log2(chances.pop(slot, 1.0)) + 0.0
            spans.append(Span(at, at + len(drawn[slot]), slot, bits))
            at += len(drawn[slot])
        return spans

    def entropy(self) -> float:
        """Return the mean of -log2 p over the grammar's texts, in bits a text, exactly: the sum over slots of the
        entropy of each table, weighted by how often it is the one in force."""
        return math.fsum(
            chance * _entropy(pick.table(value))
            for pick in self.picks
            for value, chance in self.marginals[pick.on].items()
        )

    def mean_bytes(self) -> float:
        """Return the mean length of the grammar's texts in UTF-8 bytes, exactly."""
        fixed = len(_MENTION.sub("", self.template).encode())
        mentions = (mention[1] for mention in _MENTION.finditer(self.template))
        varying = (p * len(word.encode()) for slot in mentions for word, p in self.marginals[slot].items())
        return fixed + math.fsum(varying)

    def enumerate(self) -> Iterator[tuple[str, float]]:
        """Yield every text with its probability, in no useful number for a grammar of more than a few slots."""

        def extend(picks: tuple[Pick, ...], drawn: dict[str, str], chance: float) -> Iterator[tuple[str, float]]:
            if not picks:
                yield self.render(drawn), chance
                return
            first, *rest = picks
            for word, p in first.table(drawn[first.on]).items():
                yield from extend(tuple(rest), {**drawn, first.slot: word}, chance * p)

        return extend(self.picks, {"": ""}, 1.0)

    @functools.cached_property
    def marginals(self) -> dict[str, dict[str, float]]:
        """The probability of each word of each slot, whatever the others are."""
        known: dict[str, dict[str, float]] = {"": {"": 1.0}}
        for pick in self.picks:
            totals: dict[str, float] = {}
            for value, chance in known[pick.on].items():
                for word, p in pick.table(value).items():
                    totals[word] = totals.get(word, 0.0) + chance * p
            known[pick.slot] = totals
        return known

    @functools.cached_property
    def _pattern(self) -> re.Pattern[str]:
        """The template as an expression: a choice at a slot's first mention, the same words at each later one."""
        parts, seen, end = [], set(), 0
        for mention in _MENTION.finditer(self.template):
            parts.append(re.escape(self.template[end : mention.start()]))
            slot, end = mention[1], mention.end()
            words = sorted(self.marginals[slot], key=len, reverse=True)
            parts.append(f"(?P={slot})" if slot in seen else f"(?P<{slot}>{'|'.join(map(re.escape, words))})")
            seen.add(slot)
        return re.compile("".join(parts) + re.escape(self.template[end:]))


def _draw(table: Mapping[str, float], uniform: float) -> str:
    """Return the word at which the running sum of chances passes a number in [0, 1)."""
    for word, chance in table.items():
        uniform -= chance
        if uniform < 0:
            return word
    return list(table)[-1]  # the chances add up to a little less than 1, by rounding


def _entropy(table: Mapping[str, float]) -> float:
    return -math.fsum(p * math.log2(p) for p in table.values() if p)
