"""Groups of people: the words that mention them, and harmless sentences about them, as data."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

DATA = Path(__file__).with_name("mentioned_groups.json")


@dataclass(frozen=True)
class Group:
    """A group of people.

    Attributes:
        kind: gender, religion and so on.
        name: of the group; empty for all groups of a kind together.
        mentions: words by which a text mentions it, in lower case.
        people: how a sentence names one of it.
    """

    kind: str
    name: str
    mentions: tuple[str, ...]
    people: tuple[str, ...]

    def mentioned(self, texts: Sequence[str]) -> np.ndarray:
        """Return which texts mention it, as whole words, in whatever case: bool [N]."""
        pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, self.mentions))})\b")
        return np.array([pattern.search(text.casefold()) is not None for text in texts], bool)


@dataclass(frozen=True)
class Groups:
    """The groups, each kind as a whole before its parts, and the sentences.

    Attributes:
        groups: them.
        sentences: harmless ones, with `{person}`.
        anybody: how a sentence names one of no group.
    """

    groups: tuple[Group, ...]
    sentences: tuple[str, ...]
    anybody: tuple[str, ...]

    def about(self, people: Sequence[str]) -> list[str]:
        """Return each sentence about each of some people, sentence by sentence."""
        return [sentence.replace("{person}", person) for sentence in self.sentences for person in people]


@cache
def groups() -> Groups:
    """Return the groups that Etude knows."""
    data = json.loads(DATA.read_text(encoding="utf-8"))
    found: list[Group] = []
    for kind, held in data["groups"].items():
        parts = [Group(kind, name, tuple(of["mentions"]), tuple(of["people"])) for name, of in held.items()]
        mentions, people = (tuple(word for part in parts for word in getattr(part, n)) for n in ("mentions", "people"))
        found += [Group(kind, "", mentions, people), *parts]
    return Groups(tuple(found), tuple(data["sentences"]), tuple(data["anybody"]))
