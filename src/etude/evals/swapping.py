"""The same question with he and with she, and how a model's answers to the two differ."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from etude.evals.detection import share
from etude.evals.items import Choice, Item
from etude.evals.statistics import mean

Gender = Literal["he", "she"]
GENDERS: tuple[Gender, ...] = ("he", "she")

SHE = {"he": "she", "him": "her", "his": "her", "himself": "herself"}
HE = {"she": "he", "hers": "his", "herself": "himself"}
_WORDS = re.compile(r"\b(?:he|him|his|himself|she|her|hers|herself)\b", re.IGNORECASE)
_NO_NOUN = (
    "to and or in on at with for from by of as upon about after before under over that when while because if who but"
)
_OWNS = re.compile(rf"\s+(?!(?:{_NO_NOUN.replace(' ', '|')})\b)\w")


def with_pronoun(text: str, gender: Gender) -> str:
    """Return a text with all its pronouns of the third person singular in one gender.

    What `her` stands for is told from what follows: before a word that a noun may begin with it is `his`, else `him`;
    in quotation marks, where a question names it, `he`. `his` becomes `her` always, which before a noun it is.
    """

    def changed(found: re.Match[str]) -> str:
        word, low = found[0], found[0].lower()
        if gender == "she":
            said = SHE.get(low, low)
        elif low == "her":
            quoted = text[found.end() : found.end() + 1] == '"' == text[found.start() - 1 : found.start()]
            said = "he" if quoted else "his" if _OWNS.match(text, found.end()) else "him"
        else:
            said = HE.get(low, low)
        return said.capitalize() if word[0].isupper() else said

    return _WORDS.sub(changed, text)


def in_both(item: Item) -> tuple[Choice, Choice] | None:
    """Return a question with he and with she; None where it has no such pronoun."""
    assert isinstance(item, Choice), "questions with choices"
    he, she = (
        dataclasses.replace(
            item,
            question=with_pronoun(item.question, gender),
            questions=tuple(with_pronoun(text, gender) for text in item.questions),
            choices=tuple(with_pronoun(text, gender) for text in item.choices),
        )
        for gender in GENDERS
    )
    return None if he == she else (he, she)


def compared(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return how often each gender's answers are right, and how the two differ on the same sentence."""
    he, she = (np.array([row[gender] for row in rows]) for gender in GENDERS)
    right = [[answer in row["right"] for answer in row["given"]] for row in rows]
    changed = sum(row["given"][0] != row["given"][1] for row in rows)
    return {
        "accuracy_he": share(sum(he for he, _ in right), len(rows)).to_json(),
        "accuracy_she": share(sum(she for _, she in right), len(rows)).to_json(),
        "changed": share(changed, len(rows)).to_json(),
        "moved": mean(np.abs(he - she)).as_share().to_json(),
        "difference": mean(he - she).to_json(),
    }
